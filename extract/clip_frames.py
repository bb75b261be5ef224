"""One clip's frames: check the file, probe it, choose N frames, decode and resize them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from cache_schema.outcome import LONGEST_DETAIL
from extract.decoder_choice import decoders_for
from extract.decoding import (
    Census,
    DecodeCount,
    FramesMissing,
    PyavDecoder,
    census,
    pictures_by_order,
)
from extract.frame_choice import FrameChoice, choose_frames
from extract.frame_request import FrameRequest
from extract.preprocessing import to_encoder_input
from extract.probe import Probe, check_size
from extract.refusal import ClipRefused
from extract.source_file import SourceFile
from extract.upright_rgb import Rgb

_ENDS_AGREE_SECONDS: Final = 0.5
# Two equal pictures in a row are common in rendered videos; more tell of a decoder or a recorder
# that had nothing new.
_FROZEN_RUN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipFrames:
    """The frames of one clip, ready for the encoder."""

    pixels: npt.NDArray[np.uint8]
    """uint8 [d, S, S, 3]: the distinct frames."""
    slot: npt.NDArray[np.int64]
    """int64 [N]: for each of the N frames, its place in ``pixels``."""
    frame_index: npt.NDArray[np.int32]
    """int32 [N]: place among the presentable frames of the file."""
    frame_time: npt.NDArray[np.float64]
    """float64 [N]: seconds from the first frame of the file."""
    source: SourceFile
    backend: str
    """Decoder and version."""
    flags: tuple[str, ...]
    decoded: int
    """Pictures that went through the decoder."""


@dataclass(slots=True)
class _Reading:
    """One file on its way from container to frames."""

    request: FrameRequest
    source: SourceFile
    probe: Probe
    flags: list[str] = field(default_factory=list)

    def choose(self, timestamps: npt.NDArray[np.float64]) -> FrameChoice:
        """Applies the clip's bounds, cut to what the file holds."""
        last = float(np.median(np.diff(timestamps))) if timestamps.size > 1 else 0.0
        file_end = float(timestamps[-1]) + (last or float(1 / self.probe.rate))
        start = self.request.start_s or 0.0
        end = file_end if self.request.end_s is None else self.request.end_s
        if start >= file_end:
            detail = f"the clip begins at {start:g} s; the video ends at {file_end:.3f} s"
            raise ClipRefused("empty_clip", detail)
        if end > file_end + _ENDS_AGREE_SECONDS:
            self.flags.append(f"end {end:g} s cut to the video's end at {file_end:.3f} s")
        return choose_frames(timestamps, start, min(end, file_end), self.request.frames)

    def resized(self, pictures: Iterator[Rgb], choice: FrameChoice) -> npt.NDArray[np.uint8]:
        """Keeps only encoder-sized pictures, whatever the size of the video."""
        size = self.request.preprocess.image_size
        pixels = np.empty((choice.distinct.size, size, size, 3), dtype=np.uint8)
        place = -1
        shapes: dict[str, None] = {}
        for place, rgb in enumerate(pictures):
            height, width, _ = rgb.shape
            check_size(width, height, self.request.limits)
            shapes[f"{width}x{height}"] = None
            pixels[place] = to_encoder_input(rgb, self.request.preprocess)
        if place + 1 != choice.distinct.size:
            raise FramesMissing
        if len(shapes) > 1:
            self.flags.append(f"the picture size changes: {', '.join(shapes)}"[:LONGEST_DETAIL])
        self.flags.extend(frozen_flags(pixels))
        return pixels

    def clip_frames(
        self,
        choice: FrameChoice,
        pixels: npt.NDArray[np.uint8],
        backend: str,
        count: DecodeCount,
    ) -> ClipFrames:
        """Puts the result together."""
        return ClipFrames(
            pixels=pixels,
            slot=choice.slot,
            frame_index=choice.index,
            frame_time=choice.time,
            source=self.source,
            backend=backend,
            flags=tuple(self.flags),
            decoded=count.frames,
        )


def frozen_flags(pixels: npt.NDArray[np.uint8]) -> tuple[str, ...]:
    """Counts pictures that equal the one before, where that happens more than in passing.

    Args:
        pixels: uint8 [d, S, S, 3], distinct frames in order of presentation.
    """
    repeats = [bool(np.array_equal(one, two)) for one, two in itertools.pairwise(pixels)]
    longest = max((len(list(run)) for same, run in itertools.groupby(repeats) if same), default=0)
    if longest + 1 < _FROZEN_RUN:
        return ()
    share = f"{sum(repeats)} of {len(pixels)} frames equal the one before"
    return (f"{share}; the longest run is {longest + 1}",)


def read_clip(request: FrameRequest, source: SourceFile, probe: Probe) -> ClipFrames:
    """Decodes the frames of one clip.

    The same frames come out whichever backend serves: a backend that does not know the file's
    kind, or does not deliver the pictures of the probe's timestamps, is replaced by PyAV, and a
    file whose pictures do not agree with its container is decoded once in full to learn which
    pictures there are.

    Args:
        request: the clip and how to read it.
        source: the clip's file.
        probe: what the file holds.

    Raises:
        ClipRefused: with any reason of decoding.
    """
    reading = _Reading(request=request, source=source, probe=probe, flags=[*probe.remarks])
    for decoder in decoders_for(request.backend):
        if decoder.objection(probe):
            continue
        choice = reading.choose(probe.timestamps)
        count = DecodeCount()
        try:
            pixels = reading.resized(decoder.pictures(probe, choice.distinct, count), choice)
        except FramesMissing:
            reading.flags = [*probe.remarks]
            continue
        _note_damage(reading, count, decoded=probe.pts.size)
        return reading.clip_frames(choice, pixels, decoder.version, count)
    return _read_by_census(reading)


def _read_by_census(reading: _Reading) -> ClipFrames:
    found: Census = census(reading.probe)
    if found.count.frames == 0:
        raise _nothing_decodes(reading.probe)
    reading.flags.extend(found.flags)
    _note_damage(reading, found.count, decoded=found.count.frames)
    choice = reading.choose(found.timestamps)
    count = DecodeCount()
    pictures = pictures_by_order(reading.probe, choice.distinct, count)
    try:
        pixels = reading.resized(pictures, choice)
    except FramesMissing as error:
        detail = "two passes over the file decoded different pictures"
        raise ClipRefused("decode_error", detail) from error
    return reading.clip_frames(choice, pixels, PyavDecoder().version, found.count)


def _note_damage(reading: _Reading, count: DecodeCount, decoded: int) -> None:
    declared = max(reading.probe.declared_frames, reading.probe.pts.size)
    if decoded < declared:
        share = f"decoded {decoded} of {declared} declared frames"
        if decoded < reading.request.limits.least_share * declared:
            raise ClipRefused("truncated", share)
        reading.flags.append(share)
    if count.corrupt:
        reading.flags.append(f"{count.corrupt} of {count.frames} decoded frames are damaged")
    if count.bad_packets:
        reading.flags.append(f"{count.bad_packets} packets do not decode")


def _nothing_decodes(probe: Probe) -> ClipRefused:
    packets, declared = probe.pts.size, probe.declared_frames
    if packets < declared:
        detail = f"{packets} of {declared} declared frames are in the file, and none decodes"
        return ClipRefused("truncated", detail)
    return ClipRefused("decode_error", f"none of {packets} frames decodes as {probe.codec}")
