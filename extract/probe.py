"""What a video file holds, read from its packets without decoding more than one picture."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

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
        context: object = stream.codec_context
        if context is None:
            raise ClipRefused("unsupported_codec", f"no decoder here for stream {stream.index}")
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
        _check_size(context.width, context.height, limits)
        ticks, keys, hidden, rotation = _read_packets(container, stream)
        if not ticks:
            raise ClipRefused("truncated", "the video stream holds no frames")
        codec = context.codec.canonical_name
        rate = stream.average_rate or Fraction(25)
        known = {tick for tick in ticks if tick is not None}
        pts = np.array([0 if tick is None else tick for tick in ticks], dtype=np.int64)
        declared = _declared_frames(container, stream, pts, hidden)
        formats = set(container.format.name.split(","))
        timed = len(known) == len(ticks) and not formats & _TIMELESS_CONTAINERS
        name, width, height = container.format.name, context.width, context.height
        pixel_format = context.pix_fmt or ""
        index, time_base = stream.index, stream.time_base or 1 / rate
    return Probe(
        path=path,
        container=name,
        codec=codec,
        stream_index=index,
        width=width,
        height=height,
        pixel_format=pixel_format,
        rotation=rotation,
        time_base=time_base,
        pts=pts,
        keyframe=np.array(keys, dtype=np.bool_),
        timed=timed,
        hidden=hidden,
        rate=rate,
        declared_frames=declared,
    )


def quarter_turns(rotation: float) -> int:
    """Returns how many quarter turns counter-clockwise a display matrix asks for.

    A rotation that is no multiple of 90 degrees, or no number, counts as none: files with
    nonsense there play upright everywhere.
    """
    if not math.isfinite(rotation) or rotation % 90 != 0:
        return 0
    return int(rotation // 90) % 4


def _check_size(width: int, height: int, limits: DecodeLimits) -> None:
    size = f"{width}x{height} pixels a frame"
    if width * height > limits.pixels:
        raise ClipRefused("limit_exceeded", f"{size}; the limit is {limits.pixels} in all")
    # Resized to its short side, a strip of 1x16384 would fill gigabytes.
    if max(width, height) > limits.aspect * max(min(width, height), 1):
        raise ClipRefused("limit_exceeded", f"{size}; sides may differ {limits.aspect:g} times")


def _read_packets(
    container: InputContainer, stream: VideoStream
) -> tuple[list[int | None], list[bool], int, int]:
    """Returns ticks and key marks of presentable packets, the number of hidden ones, rotation."""
    ticks: list[int | None] = []
    keys: list[bool] = []
    hidden = 0
    rotation: int | None = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            break  # a damaged tail: what was read so far is what there is
        if packet is None:
            break
        if rotation is None and len(ticks) < _FIRST_PICTURE_PACKETS:
            rotation = _rotation_of(packet)
        if packet.size == 0:
            continue  # the end marker that flushes a decoder
        if packet.is_discard:
            hidden += 1
            continue
        ticks.append(packet.pts)
        keys.append(packet.is_keyframe)
    return ticks, keys, hidden, rotation or 0


def _rotation_of(packet: "Packet[VideoStream]") -> int | None:
    """The display matrix reaches Python only with a decoded picture."""
    try:
        frames = packet.decode()
    except av.error.FFmpegError:
        return None
    return 90 * quarter_turns(frames[0].rotation) if frames else None


def _declared_frames(
    container: InputContainer, stream: VideoStream, ticks: npt.NDArray[np.int64], hidden: int
) -> int:
    """Frames that the file claims: its own count, or what its duration leaves room for.

    Duration x rate alone would accuse every file of variable rate, so the duration only counts
    where the timestamps leave a good part of it empty.
    """
    if stream.frames > 0:
        return max(stream.frames - hidden, 0)
    if not container.duration or not stream.time_base:
        return 0
    span = float(int(np.ptp(ticks)) * stream.time_base + 1 / (stream.average_rate or Fraction(25)))
    share = span / (container.duration / av.time_base)
    return ticks.size if share > _COVERED_SHARE else round(ticks.size / share)


def _unopened(path: Path, error: Exception) -> ClipRefused:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        detail = "an MP4 file without a readable index: cut short, or still being written"
        return ClipRefused("truncated", detail)
    return ClipRefused("not_a_video", f"no known video container ({type(error).__name__})")
