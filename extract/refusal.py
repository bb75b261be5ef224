"""Why a clip yields no features: a short code that can be counted, and one line for a person."""

from typing import Final

from cache_schema import VideoDistillError

REASONS: Final = frozenset(
    {
        "missing_file",  # no such file
        "io",  # the file exists and cannot be read
        "not_regular_file",  # FIFO, device, socket or folder
        "outside_root",  # the file, links followed, lies outside the data set's root
        "not_a_video",  # empty, text, or no container that is on the list
        "playlist",  # a text that names other files or addresses
        "no_video_stream",  # audio or data only
        "unsupported_codec",  # a video stream that no backend here can decode
        "limit_exceeded",  # more pixels or memory than allowed
        "truncated",  # the file ends before the first usable frame, or far before its end
        "decode_error",  # packets are there and none of them decodes
        "empty_clip",  # the clip's bounds hold no part of the video
        "timeout",  # decoding passed its wall-clock limit and was killed
        "crashed",  # the decode process died
        "nonfinite",  # features overflowed or became NaN
    }
)
"""Every code that extraction writes into a store."""


class ClipRefused(VideoDistillError):  # noqa: N818 -- says what is the case
    """A clip cannot be turned into features; the run goes on without it.

    Attributes:
        reason: one of ``REASONS``.
        detail: what was found, for a person.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
