"""Exact decoding with PyAV: in order, each picture known by its presentation time, 8-bit upright RGB."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from extract.probe import Probe, open_video, quarter_turns

Rgb = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], upright."""

# Containers whose index marks true random access points, and codecs in which decoding from one
# of those gives every picture shown at or after it. tests/extract holds both against a decoding
# that leaves nothing out.
_SKIPPABLE_CONTAINERS: Final = frozenset({"mov", "matroska"})
_SKIPPABLE_CODECS: Final = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})
_CODECS_WITH_DISPOSABLE_PICTURES: Final = frozenset({"h264", "hevc"})


class FramesMissing(Exception):  # noqa: N818 -- says what is the case; never leaves this package
    """Pictures that the container lists do not come out of the decoder, or not in order."""


@dataclass(slots=True)
class DecodeCount:
    """What a decoding pass met."""

    frames: int = 0
    """Pictures that came out."""
    corrupt: int = 0
    """Pictures that the decoder marks as damaged."""
    bad_packets: int = 0
    """Packets that did not decode."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Census:
    """All pictures of a stream, found by decoding it."""

    count: DecodeCount
    timestamps: npt.NDArray[np.float64]
    """float64 [M]: seconds from the first picture, in the order in which they come out."""
    flags: tuple[str, ...] = field(default=())
    """Remarks on the timestamps."""


class Decoder(Protocol):
    """A library that decodes chosen pictures of a stream."""

    @property
    def version(self) -> str:
        """Name and version, as recorded with every clip."""
        ...

    def serves(self, probe: Probe) -> bool:
        """Says whether the library returns the right pictures for files of this kind."""
        ...

    def pictures(
        self, probe: Probe, wanted: npt.NDArray[np.int32], count: DecodeCount
    ) -> Iterator[Rgb]:
        """Yields the wanted pictures in order of presentation.

        Args:
            probe: a file whose timestamps are known (``probe.timed``).
            wanted: int32 [d]: places among the presentable frames, increasing.
            count: filled while decoding.

        Raises:
            FramesMissing: a wanted picture did not come out.
        """
        ...


class PyavDecoder:
    """The default: right for every file that FFmpeg decodes."""

    @property
    def version(self) -> str:
        """Name and version of the library."""
        return f"pyav {av.__version__}"

    def serves(self, probe: Probe) -> bool:
        """Returns whether pictures can be told apart by their timestamps."""
        return probe.timed

    def pictures(
        self, probe: Probe, wanted: npt.NDArray[np.int32], count: DecodeCount
    ) -> Iterator[Rgb]:
        """See ``Decoder.pictures``; leaves out what no wanted picture needs."""
        targets = iter(probe.ticks[wanted].tolist())
        target = next(targets, None)
        previous: int | None = None
        to_rgb = _RgbConverter()
        for frame in _decode(probe, needed_packets(probe, wanted), wanted, count):
            tick = frame.pts
            if target is None:
                return
            if tick is None or tick > target or (previous is not None and tick <= previous):
                break
            if count.corrupt or count.bad_packets:
                # A decoder mends damage with what it has at hand, which depends on what was left
                # out: damaged files are decoded in full.
                break
            previous = tick
            if tick == target:
                yield to_rgb(frame)
                target = next(targets, None)
                if target is None:
                    return
        if target is not None:
            raise FramesMissing


def pictures_by_order(
    probe: Probe, wanted: npt.NDArray[np.int32], count: DecodeCount
) -> Iterator[Rgb]:
    """Yields pictures by their place in the decoder's output, for files without usable times.

    Args:
        probe: the file.
        wanted: int32 [d]: places in the order of a ``census``, increasing.
        count: filled while decoding.
    """
    places = set(wanted.tolist())
    last = max(places)
    to_rgb = _RgbConverter()
    for place, frame in enumerate(_decode(probe, None, None, count)):
        if place in places:
            yield to_rgb(frame)
        if place == last:
            return


def census(probe: Probe) -> Census:
    """Decodes a whole stream to learn which pictures it really holds.

    Needed for files whose packets carry no presentation times (raw streams), wrong ones (AVI with
    B-frames: the times are right as a set, and each belongs to another picture), and for damaged
    files, whose containers list pictures that do not decode.
    """
    count = DecodeCount()
    ticks = [frame.pts for frame in _decode(probe, None, None, count)]
    known = [tick for tick in ticks if tick is not None]
    flags: tuple[str, ...] = ()
    if len(known) == len(ticks) and len(set(known)) == len(ticks):
        values = np.sort(np.array(known, dtype=np.int64))
        seconds = (values - values[:1]) * float(probe.time_base)
    else:
        seconds = np.arange(len(ticks)) / float(probe.rate)
        flags = (f"no usable timestamps; {float(probe.rate):g} frames a second assumed",)
    return Census(count=count, timestamps=np.asarray(seconds, dtype=np.float64), flags=flags)


def needed_packets(probe: Probe, wanted: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_] | None:
    """Says which packets must be decoded for the wanted pictures.

    A stream is cut at its random access points into groups of pictures; groups without a wanted
    picture are left out. Pictures shown before the access point that they follow in the file
    (open groups) also need the group before.

    Args:
        probe: the file.
        wanted: int32 [d]: places among the presentable frames.

    Returns:
        bool [M], in decoding order; None where nothing may be left out.
    """
    if (
        probe.hidden
        or probe.codec not in _SKIPPABLE_CODECS
        or not _SKIPPABLE_CONTAINERS & set(probe.container.split(","))
        or not probe.keyframe[0]
    ):
        return None
    group = probe.group
    is_wanted = np.isin(probe.pts, probe.ticks[wanted])
    groups = set(group[is_wanted].tolist())
    groups.update((group[is_wanted & probe.leading] - 1).tolist())
    return np.isin(group, list(groups))


def _decode(
    probe: Probe,
    needed: npt.NDArray[np.bool_] | None,
    wanted: npt.NDArray[np.int32] | None,
    count: DecodeCount,
) -> Iterator[VideoFrame]:
    """Decodes packet by packet, so that a bad one costs only itself."""
    wanted_ticks = None
    if wanted is not None and probe.codec in _CODECS_WITH_DISPOSABLE_PICTURES:
        wanted_ticks = set(probe.ticks[wanted].tolist())
    with open_video(probe.path) as (container, stream):
        context = stream.codec_context
        place = -1
        contiguous = True
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                count.bad_packets += 1
                packet = None
            if packet is None or packet.size == 0:
                yield from _counted(context, None, count)
                return
            if not packet.is_discard:
                place += 1
                if needed is not None and not needed[place]:
                    if contiguous:
                        yield from _counted(context, None, count)
                        context.flush_buffers()
                    contiguous = False
                    continue
                contiguous = True
                if wanted_ticks is not None:
                    # A picture that is neither shown nor referred to need not be decoded.
                    context.skip_frame = "DEFAULT" if packet.pts in wanted_ticks else "NONREF"
            try:
                frames = context.decode(packet)
            except av.error.MemoryError:
                raise
            except av.error.FFmpegError:
                count.bad_packets += 1
                continue
            yield from _tallied(frames, count)


def _counted(context: VideoCodecContext, packet: None, count: DecodeCount) -> Iterator[VideoFrame]:
    try:
        frames = context.decode(packet)
    except av.error.FFmpegError:
        return
    yield from _tallied(frames, count)


def _tallied(frames: list[VideoFrame], count: DecodeCount) -> Iterator[VideoFrame]:
    for frame in frames:
        count.frames += 1
        count.corrupt += frame.is_corrupt
        yield frame


class _RgbConverter:
    """Keeps one swscale context per stream: building it anew costs more than using it."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Rgb:
        converted = self._reformatter.reformat(frame, format="rgb24", threads=1)
        rgb = np.asarray(converted.to_ndarray(), dtype=np.uint8)
        turns = quarter_turns(frame.rotation)
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
