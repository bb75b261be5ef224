"""Decoding with torchcodec, for the files on which its seeking was found right."""

import importlib.metadata
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torchcodec.decoders import VideoDecoder

from extract.decoding import DecodeCount, FramesMissing
from extract.probe import Probe
from extract.upright_rgb import Rgb

_CONTAINERS: Final = frozenset({"mov", "matroska"})
_CODECS: Final = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})
_CHUNK: Final = 32


class TorchcodecDecoder:
    """An alternative where torchcodec and a shared FFmpeg are installed (docs/adr/0003)."""

    @property
    def version(self) -> str:
        """Name and version of the distribution."""
        return f"torchcodec {importlib.metadata.version('torchcodec')}"

    def serves(self, probe: Probe) -> bool:
        """Excludes what torchcodec gets wrong.

        In MPEG streams, 3GP and AVI it gives other pictures than asked for; odd sizes and other
        pixel formats give other colours than the other libraries.
        """
        return (
            probe.timed
            and not probe.interlaced
            and probe.codec in _CODECS
            and probe.pixel_format == "yuv420p"
            and probe.width % 2 == probe.height % 2 == 0
            and bool(_CONTAINERS & set(probe.container.split(",")))
        )

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
    """torchcodec applies the display matrix itself; rows may lie in other orders in memory."""
    for picture in batch:
        yield np.ascontiguousarray(picture.numpy())
