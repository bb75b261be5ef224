"""Decoding with torchcodec, for the files on which its seeking was found right."""

import importlib.metadata
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torchcodec
from torchcodec.decoders import VideoDecoder

from extract.decoding import DecodeCount, FramesMissing
from extract.key_packet import Access
from extract.probe import Probe
from extract.upright_rgb import Rgb

_CONTAINERS: Final = frozenset({"mov", "matroska"})
_CODECS: Final = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})
_CHUNK: Final = 32

if torchcodec.ffmpeg_major_version is None:  # older releases do not even import then
    raise ImportError("no shared FFmpeg libraries found")


class TorchcodecDecoder:
    """An alternative where torchcodec and a shared FFmpeg are installed (docs/adr/0003)."""

    @property
    def version(self) -> str:
        """Name and version of the distribution."""
        return f"torchcodec {importlib.metadata.version('torchcodec')}"

    def objection(self, probe: Probe) -> str:
        """Names what torchcodec gets wrong.

        In MPEG streams, 3GP and AVI it gives other pictures than asked for; odd sizes and other
        pixel formats give other colours than the other libraries.
        """
        if not _CONTAINERS & set(probe.container.split(",")):
            return "only for MP4, MOV, MKV and WebM"
        if probe.codec not in _CODECS:
            return "only for H.264, HEVC, VP8, VP9 and AV1"
        if not probe.timed:
            return "packets carry no usable times"
        if probe.interlaced:
            return "other colours in interlaced pictures"
        if probe.access is Access.LATE:
            return "wrong after seeking to key frames that are none"
        if probe.pixel_format != "yuv420p":
            return f"other colours in {probe.pixel_format or 'unknown layouts'}"
        if probe.width % 2 or probe.height % 2:
            return "other colours in odd sizes"
        return ""

    def pictures(
        self, probe: Probe, wanted: npt.NDArray[np.int32], count: DecodeCount
    ) -> Iterator[Rgb]:
        """See ``extract.decoding.Decoder.pictures``; checks the time of every picture."""
        try:
            reader = VideoDecoder(
                str(probe.path),
                stream_index=probe.stream_index,
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                seek_mode="exact",
            )
            if len(reader) != probe.pts.size:
                raise FramesMissing
            tolerance = 0.25 / float(probe.rate)
            for begin in range(0, wanted.size, _CHUNK):
                places = wanted[begin : begin + _CHUNK]
                batch = reader.get_frames_at(places.tolist())
                times = probe.ticks[places] * float(probe.time_base)
                if not np.allclose(batch.pts_seconds.numpy(), times, rtol=0, atol=tolerance):
                    raise FramesMissing
                count.frames += len(places)
                yield from _upright(batch.data)
        except (RuntimeError, ValueError, IndexError) as error:
            raise FramesMissing from error


def _upright(batch: torch.Tensor) -> Iterator[Rgb]:
    """Takes a batch apart; torchcodec has applied the display matrix itself."""
    for picture in batch:
        yield np.ascontiguousarray(picture.numpy())
