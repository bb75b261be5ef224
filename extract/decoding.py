"""Exact decoding with PyAV: forward from key frames, each picture known by its presentation time."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from extract.decode_plan import DecodePlan, plan_decoding
from extract.probe import Probe, open_video
from extract.upright_rgb import Rgb, RgbConverter

if TYPE_CHECKING:
    _VideoPacket: TypeAlias = Packet[VideoStream]

_FARTHEST_MISS: Final = 4096


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

    def objection(self, probe: Probe) -> str:
        """Says why the library is not used for a file of this kind; empty where it is right."""
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
    """The default: right for every file that FFmpeg decodes.

    Args:
        whole: decode everything in order, as a slow reference for the plans of ``decode_plan``.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole

    @property
    def version(self) -> str:
        """Name and version of the library."""
        return f"pyav {av.__version__}"

    def objection(self, probe: Probe) -> str:
        """Objects where pictures cannot be told apart by the times of their packets.

        Such files are decoded in full instead (``census``).
        """
        return "" if probe.timed else "packets carry no usable times"

    def pictures(
        self, probe: Probe, wanted: npt.NDArray[np.int32], count: DecodeCount
    ) -> Iterator[Rgb]:
        """See ``Decoder.pictures``; leaves out what no wanted picture needs."""
        ticks = probe.ticks[wanted].tolist()
        targets = iter(ticks)
        target = next(targets, None)
        previous: int | None = None
        to_rgb = RgbConverter()
        plan = None if self._whole else plan_decoding(probe, wanted)
        for frame in _decode(probe, plan, frozenset(ticks), count):
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
    to_rgb = RgbConverter()
    for place, frame in enumerate(_decode(probe, None, frozenset(), count)):
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
    ticks = [frame.pts for frame in _decode(probe, None, frozenset(), count)]
    seconds, flags = _times_of(probe, ticks)
    return Census(count=count, timestamps=seconds, flags=flags)


def _times_of(
    probe: Probe, ticks: list[int | None]
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Returns seconds from the first picture for pictures as they come out, and remarks."""
    known = [tick for tick in ticks if tick is not None]
    values = np.array(known, dtype=np.int64)
    steps = np.diff(np.sort(values) if probe.shuffled else values)
    forward = steps[steps > 0]
    if len(known) < len(ticks) or (len(ticks) > 1 and not forward.size):
        seconds = np.arange(len(ticks)) / float(probe.rate)
        return seconds, (f"no usable timestamps; {float(probe.rate):g} frames a second assumed",)
    flags: tuple[str, ...] = ()
    if forward.size < steps.size:
        # Parts of other recordings, or a clock that wrapped: the order of the pictures holds.
        flags = (f"{steps.size - forward.size} timestamps go back and count as one frame each",)
        steps = np.where(steps > 0, steps, round(float(np.median(forward))))
    seconds = np.concatenate([[0], np.cumsum(steps)]) * float(probe.time_base)
    return np.asarray(seconds[: len(ticks)], dtype=np.float64), flags


def _decode(
    probe: Probe, plan: DecodePlan | None, wanted: frozenset[int], count: DecodeCount
) -> Iterator[VideoFrame]:
    """Decodes packet by packet, so that a bad one costs only itself; without a plan, all of them."""
    with open_video(probe.path) as (container, stream):
        context = stream.codec_context
        packets = (
            _all_packets(container.demux(stream), count)
            if plan is None
            else _planned_packets(container, stream, probe, plan, count)
        )
        for packet in packets:
            if packet is None:
                yield from _drained(context, count)
                context.flush_buffers()
                continue
            if plan is not None and plan.disposable and not packet.is_discard:
                # A picture that is neither shown nor referred to need not be decoded.
                context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                frames = context.decode(packet)
            except av.error.MemoryError:
                raise
            except av.error.FFmpegError:
                count.bad_packets += 1
                continue
            yield from _tallied(frames, count)
        yield from _drained(context, count)


def _all_packets(packets: "Iterator[_VideoPacket]", count: DecodeCount) -> "Iterator[_VideoPacket]":
    """Yields packets up to the end, or to where the container itself is damaged."""
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, IndexError):  # see extract.probe
            count.bad_packets += 1
            return
        if packet is None or packet.size == 0:
            return
        yield packet


def _planned_packets(
    container: InputContainer,
    stream: VideoStream,
    probe: Probe,
    plan: DecodePlan,
    count: DecodeCount,
) -> "Iterator[_VideoPacket | None]":
    """Yields the packets of a plan, and None wherever the decoder is to start anew."""
    packets = _all_packets(container.demux(stream), count)
    place = 0
    for number, (begin, end) in enumerate(plan.runs):
        first: _VideoPacket | None = None
        if number > 0:
            yield None
        if number in plan.jumps:
            packets, first = _jump(container, stream, int(probe.pts[begin]), count)
            place = begin
        while place < end:
            packet = first if first is not None else next(packets, None)
            first = None
            if packet is None:
                return
            if packet.is_discard:
                # Hidden packets are still referred to. Where there are any, nothing is left out.
                yield packet
                continue
            if packet.pts != probe.pts[place]:
                raise FramesMissing
            place += 1
            if place > begin:
                yield packet


def _jump(
    container: InputContainer, stream: VideoStream, target: int, count: DecodeCount
) -> "tuple[Iterator[_VideoPacket], _VideoPacket]":
    """Seeks to a key packet and returns it with what follows.

    Raises:
        FramesMissing: the container's index leads elsewhere.
    """
    container.seek(target, stream=stream)
    packets = _all_packets(container.demux(stream), count)
    # An index may lead to an earlier key packet, from which reading on gets there.
    for packet in itertools.islice(packets, _FARTHEST_MISS):
        if packet.pts == target:
            return packets, packet
    raise FramesMissing


def _drained(context: VideoCodecContext, count: DecodeCount) -> Iterator[VideoFrame]:
    try:
        frames = context.decode(None)
    except av.error.FFmpegError:
        return
    yield from _tallied(frames, count)


def _tallied(frames: list[VideoFrame], count: DecodeCount) -> Iterator[VideoFrame]:
    for frame in frames:
        count.frames += 1
        count.corrupt += frame.is_corrupt
        yield frame
