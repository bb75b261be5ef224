"""Decoding with decord, for the files on which its random access was found right."""

import importlib.metadata
from collections.abc import Iterator
from typing import Final

import decord
import numpy as np
import numpy.typing as npt
from decord._ffi.base import DECORDError

from extract.decoding import DecodeCount, FramesMissing
from extract.probe import Probe
from extract.upright_rgb import Rgb

_CONTAINERS: Final = frozenset({"mov", "matroska", "flv"})
_CODECS: Final = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4"})

decord.logging.set_level(decord.logging.QUIET)


class DecordDecoder:
    """An alternative for comparison with caches that were made with decord (docs/adr/0003).

    Reads in order: ``get_batch`` skips and seeks, and returns other pictures without an error where
    a busy machine keeps its decoding thread waiting (decord2 3.4.0).
    """

    @property
    def version(self) -> str:
        """Name and version of the distribution that is installed as ``decord``."""
        for name in ("decord2", "decord"):
            try:
                return f"{name} {importlib.metadata.version(name)}"
            except importlib.metadata.PackageNotFoundError:
                continue
        return f"decord {decord.__version__}"

    def objection(self, probe: Probe) -> str:
        """Names what decord gets wrong, even read in order.

        Hidden packets shift its frame numbers; MPEG streams, AVI and H.263 give other pictures than
        asked for; odd sizes and other pixel formats give other colours.
        """
        if not _CONTAINERS & set(probe.container.split(",")):
            return "only for MP4, MOV, MKV, WebM and FLV"
        if probe.codec not in _CODECS:
            return "only for H.264, HEVC, VP8, VP9, AV1 and MPEG-4"
        if not probe.timed:
            return "packets carry no usable times"
        if probe.hidden:
            return "counts packets that an edit list hides"
        if probe.pixel_format != "yuv420p":
            return f"other colours in {probe.pixel_format or 'unknown layouts'}"
        if probe.interlaced:
            return "other colours in interlaced pictures"
        if probe.width % 2 or probe.height % 2:
            return "other colours in odd sizes"
        return ""

    def pictures(
        self, probe: Probe, wanted: npt.NDArray[np.int32], count: DecodeCount
    ) -> Iterator[Rgb]:
        """See ``extract.decoding.Decoder.pictures``; checks decord's own timestamps first."""
        try:
            # A fault tolerance of 1 turns silently repeated pictures into an error.
            reader = decord.VideoReader(str(probe.path), num_threads=1, fault_tol=1)
            if len(reader) != probe.pts.size or not self._times_agree(reader, probe, wanted):
                raise FramesMissing
            targets = iter(wanted.tolist())
            target = next(targets, None)
            for place in range(int(wanted[-1]) + 1):
                picture = reader.next()
                count.frames += 1
                if place == target:
                    yield _three_channels(picture.asnumpy())
                    target = next(targets, None)
        except (DECORDError, decord.DECORDLimitReachedError, RuntimeError) as error:
            raise FramesMissing from error

    @staticmethod
    def _times_agree(
        reader: "decord.VideoReader", probe: Probe, wanted: npt.NDArray[np.int32]
    ) -> bool:
        begins = np.asarray(reader.get_frame_timestamp(wanted.tolist()), dtype=np.float64)[:, 0]
        begins -= float(reader.get_frame_timestamp([0])[0, 0])
        return bool(np.allclose(begins, probe.timestamps[wanted], atol=0.5 / float(probe.rate)))


def _three_channels(picture: npt.NDArray[np.uint8]) -> Rgb:
    """Rows of some widths come padded, as if there were a fourth channel (decord2 3.4.0)."""
    if picture.ndim != 3 or picture.shape[2] != 3:
        raise FramesMissing
    return picture
