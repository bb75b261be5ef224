"""What a video file holds, read from its packets without decoding more than one picture."""

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from extract.key_packet import Access, access_at
from extract.limits import DecodeLimits
from extract.refusal import ClipRefused

CONTAINERS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,vvc,av1,obu,"
    "ivf,flv,ogg,asf,mxf,rm,dv,nut"
)
"""Demuxers that may be used. Not on the list: hls, dash, concat, image sequences, devices."""

# Packets of these carry no presentation times, or times that belong to other pictures (AVI with
# B-frames): there the frames are counted by decoding.
_TIMELESS_CONTAINERS: Final = frozenset(
    {"avi", "h264", "hevc", "vvc", "obu", "m4v", "mpegvideo", "rm"}
)
_FIRST_PICTURE_PACKETS: Final = 32
_COVERED_SHARE: Final = 0.9
# A header that leaves fewer bits for a second than this has its duration wrong.
_LEAST_BITS_PER_SECOND: Final = 200
_INDEX_BYTES: Final = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Probe:
    """The best video stream of a file, as its container describes it.

    Packets that the container hides (edit lists, pre-roll of a cut clip) are not counted among
    the presentable ones.
    """

    path: Path
    container: str
    """FFmpeg's name of the demuxer, such as ``mov,mp4,m4a,3gp,3g2,mj2``."""
    codec: str
    """Name of the codec, such as ``h264``."""
    stream_index: int
    """Place of the stream in the file; the container's best one, not the first."""
    width: int
    height: int
    pixel_format: str
    """FFmpeg's name of the layout of decoded pictures, such as ``yuv420p``; may be empty."""
    rotation: int
    """Degrees counter-clockwise by which the first picture is turned: 0, 90, 180 or 270."""
    time_base: Fraction
    """Seconds per tick of ``pts``."""
    pts: npt.NDArray[np.int64]
    """int64 [M]: ticks of the presentable packets, in decoding order."""
    keyframe: npt.NDArray[np.bool_]
    """bool [M]: whether decoding can begin at a packet."""
    timed: bool
    """Whether ``pts`` are the presentation times of the pictures, each its own."""
    hidden: int
    """Packets that the container asks not to present."""
    rate: Fraction
    """Average frames per second; 25 where the file does not say."""
    declared_frames: int
    """Frames that the file claims to present; 0 where it does not say."""
    interlaced: bool
    """Whether the first picture consists of two fields."""
    access: Access
    """What the worst key packet is worth."""
    remarks: tuple[str, ...]
    """What is odd about the file and does not keep it from being read, a line each."""

    @property
    def shuffled(self) -> bool:
        """Whether times, where there are any, are right as a set and not for each picture."""
        return bool(_TIMELESS_CONTAINERS & set(self.container.split(",")))

    @property
    def ticks(self) -> npt.NDArray[np.int64]:
        """int64 [M]: presentation times in ticks, in order of presentation."""
        return np.sort(self.pts)

    @property
    def timestamps(self) -> npt.NDArray[np.float64]:
        """float64 [M]: presentation times in seconds from the first, in order of presentation."""
        ticks = self.ticks
        return np.asarray((ticks - ticks[0]) * float(self.time_base), dtype=np.float64)

    @property
    def group(self) -> npt.NDArray[np.int64]:
        """int64 [M]: for each packet, the number of key packets up to it, less one."""
        return np.asarray(np.cumsum(self.keyframe) - 1, dtype=np.int64)

    @property
    def leading(self) -> npt.NDArray[np.bool_]:
        """Bool [M]: packets presented before the key packet that they follow in the file.

        They refer to the group before (open groups of pictures).
        """
        if not self.keyframe.any():
            return np.zeros_like(self.keyframe)
        return np.asarray(self.pts < self.pts[self.keyframe][np.maximum(self.group, 0)])


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a file and picks its best video stream, decoding on one thread.

    Only listed containers and only the file itself: nothing that it names is followed.

    Raises:
        ClipRefused: ``not_a_video``, ``truncated``, ``no_video_stream`` or ``unsupported_codec``.
    """
    try:
        container = av.open(
            # The prefix keeps a name with a colon from being read as a protocol.
            f"file:{path}",
            mode="r",
            options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="ignore",
        )
    except (av.error.FFmpegError, ValueError) as error:
        raise _unopened(path, error) from error
    with container:
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            kinds = ", ".join(sorted({str(other.type) for other in container.streams})) or "none"
            raise ClipRefused("no_video_stream", f"no video stream; streams found: {kinds}")
        if stream.disposition & Disposition.attached_pic:
            raise ClipRefused("no_video_stream", "the only picture is a cover, beside sound")
        context: object = stream.codec_context
        if context is None:
            kinds = _sample_kinds(path) or f"stream {stream.index}"
            raise ClipRefused("unsupported_codec", f"no decoder here for {kinds}")
        stream.thread_count = 1
        yield container, stream


def probe_video(path: Path, limits: DecodeLimits) -> Probe:
    """Reads a file's packets and decodes its first picture.

    Raises:
        ClipRefused: as ``open_video``; ``limit_exceeded`` for pictures of too many pixels;
            ``truncated`` if there is no packet of video.
    """
    with open_video(path) as (container, stream):
        context = stream.codec_context
        check_size(context.width, context.height, limits)
        found = _read_packets(container, stream)
        if not found.ticks:
            raise ClipRefused("truncated", "the video stream holds no frames")
        name, codec = container.format.name, context.codec.canonical_name
        rate = stream.average_rate or Fraction(25)
        known = {tick for tick in found.ticks if tick is not None}
        pts = np.array([0 if tick is None else tick for tick in found.ticks], dtype=np.int64)
        declared = _declared_frames(container, stream, pts, found)
        timeless = bool(_TIMELESS_CONTAINERS & set(name.split(",")))
        return Probe(
            path=path,
            container=name,
            codec=codec,
            stream_index=stream.index,
            width=context.width,
            height=context.height,
            pixel_format=context.pix_fmt or "",
            rotation=90 * quarter_turns(found.rotation or 0),
            time_base=stream.time_base or 1 / rate,
            pts=pts,
            keyframe=np.array(found.keys, dtype=np.bool_),
            timed=len(known) == len(found.ticks) and not timeless,
            hidden=found.hidden,
            rate=rate,
            declared_frames=declared,
            interlaced=found.interlaced,
            access=found.access,
            remarks=tuple(found.remarks),
        )


def quarter_turns(rotation: float) -> int:
    """Returns how many quarter turns counter-clockwise a display matrix asks for.

    A rotation that is no multiple of 90 degrees, or no number, counts as none: files with
    nonsense there play upright everywhere.
    """
    if not math.isfinite(rotation) or rotation % 90 != 0:
        return 0
    return int(rotation // 90) % 4


def check_size(width: int, height: int, limits: DecodeLimits) -> None:
    """Refuses pictures that would exhaust a machine.

    Raises:
        ClipRefused: ``limit_exceeded``.
    """
    size = f"{width}x{height} pixels a frame"
    if width * height > limits.pixels:
        raise ClipRefused("limit_exceeded", f"{size}; the limit is {limits.pixels} in all")
    # Resized to its short side, a strip of 1x16384 would fill gigabytes.
    if max(width, height) > limits.aspect * max(min(width, height), 1):
        raise ClipRefused("limit_exceeded", f"{size}; sides may differ {limits.aspect:g} times")


@dataclass(slots=True)
class _Packets:
    """What the packets of a file say."""

    ticks: list[int | None] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    hidden: int = 0
    rotation: float | None = None
    interlaced: bool = False
    access: Access = Access.CLEAN
    others_end: float = 0.0
    """Seconds at which the other streams end."""
    remarks: list[str] = field(default_factory=list)

    def see_first_picture(self, context: VideoCodecContext, packet: "Packet[VideoStream]") -> None:
        """The display matrix and the fields reach Python only with a decoded picture."""
        try:
            frames = context.decode(packet)
        except av.error.FFmpegError:
            return
        if frames:
            self.rotation = frames[0].rotation
            self.interlaced = frames[0].interlaced_frame
            if self.rotation % 90 != 0:
                self.remarks.append(f"a rotation by {self.rotation:g} degrees is ignored")
            if self.interlaced:
                self.remarks.append("interlaced; the fields are left as they are")


def _read_packets(container: InputContainer, stream: VideoStream) -> _Packets:
    found = _Packets()
    codec, extradata = stream.codec_context.codec.canonical_name, stream.codec_context.extradata
    # Without a count of frames, the other streams tell whether the file was cut short.
    packets: Iterator[Packet[VideoStream]]
    packets = container.demux(stream) if stream.frames else container.demux()  # type: ignore[assignment]
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, IndexError):
            # A damaged tail: what was read so far is what there is. PyAV looks for a stream that
            # it does not know at the end of files in which streams appear late.
            break
        if packet is None:
            break
        if packet.stream_index != stream.index:
            if packet.pts is not None and packet.time_base:
                found.others_end = max(found.others_end, float(packet.pts * packet.time_base))
            continue
        if packet.has_sidedata("encryption_info"):
            raise ClipRefused("unsupported_codec", "the video is encrypted")
        if found.rotation is None and len(found.ticks) < _FIRST_PICTURE_PACKETS:
            found.see_first_picture(stream.codec_context, packet)
        if packet.size == 0:
            continue  # the end marker that flushes a decoder
        if packet.is_discard:
            found.hidden += 1
            continue
        if packet.is_keyframe:
            access = access_at(memoryview(packet), codec, extradata)
            found.access = max(found.access, access)
        found.ticks.append(packet.pts)
        found.keys.append(packet.is_keyframe)
    return found


def _declared_frames(
    container: InputContainer, stream: VideoStream, ticks: npt.NDArray[np.int64], found: _Packets
) -> int:
    """Frames that the file claims: its own count, or what its duration leaves room for.

    Duration x rate alone would accuse every file of variable rate, so the duration only counts
    where the timestamps leave a good part of it empty, and no other stream fills it.
    """
    if stream.frames > 0:
        return max(stream.frames - found.hidden, 0)
    if not container.duration or not stream.time_base:
        return 0
    duration = container.duration / av.time_base
    if 8 * container.size < _LEAST_BITS_PER_SECOND * duration:
        found.remarks.append(f"the header's duration of {duration:.0f} s is not credible")
        return ticks.size
    start = (container.start_time or 0) / av.time_base
    span = float(int(np.ptp(ticks)) * stream.time_base + 1 / (stream.average_rate or Fraction(25)))
    filled = max(span, found.others_end - start)
    return (
        ticks.size if filled > _COVERED_SHARE * duration else round(ticks.size * duration / filled)
    )


def _sample_kinds(path: Path) -> str:
    """Names the kinds of samples that an MP4's index lists, such as ``vvc1``; else nothing."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(_INDEX_BYTES)
        file.seek(max(size - _INDEX_BYTES, 0))
        content = head + file.read(_INDEX_BYTES)
    # A table of sample descriptions: 12 bytes of header and count, 4 of size, the first's kind.
    kinds = re.findall(rb"stsd.{12}([ -~]{4})", content, flags=re.DOTALL)
    return ", ".join(sorted({kind.decode() for kind in kinds}))


def _unopened(path: Path, error: Exception) -> ClipRefused:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        detail = "an MP4 file without a readable index: cut short, or still being written"
        return ClipRefused("truncated", detail)
    return ClipRefused("not_a_video", f"no known video container ({type(error).__name__})")
