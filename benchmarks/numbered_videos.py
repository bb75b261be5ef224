"""Videos of many kinds whose every frame carries its own number, and how to read it back.

A number is drawn as black and white cells along the top edge, one per bit, each a twelfth of the
width: that survives compression, resizing and any conversion of colours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 12
RATE = 10


def numbered_picture(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Draws a number over a field of changing colour; uint8 [height, width, 3]."""
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[:] = (number * 7 % 256, number * 13 % 256, 90)
    picture[height // 2 :, : width // 2] = (30, 200, number * 5 % 256)
    bits = np.array([255 * (number >> bit & 1) for bit in range(BITS)], dtype=np.uint8)
    picture[: height // 8] = bits[np.arange(width) * BITS // width, None]
    return picture


def number_in(rgb: np.ndarray) -> int:
    """Reads the number out of a decoded picture of any size."""
    height, width = rgb.shape[:2]
    rows = rgb[height // 32 : max(height * 3 // 32, height // 32 + 1)].mean(axis=(0, 2))
    cell = width / BITS
    levels = [
        rows[round((bit + 0.25) * cell) : max(round((bit + 0.75) * cell), 1)].mean()
        for bit in range(BITS)
    ]
    return sum(1 << bit for bit, level in enumerate(levels) if level > 127)


@dataclass(frozen=True, kw_only=True, slots=True)
class Numbered:
    """One kind of file: how it is written, and what is in it."""

    name: str
    codec: str = "libx264"
    frames: int = 130
    options: dict[str, str] = field(default_factory=dict)
    muxing: dict[str, str] = field(default_factory=dict)
    pixel_format: str = "yuv420p"
    size: tuple[int, int] = (96, 64)
    rotation: int = 0
    rate: int = RATE
    times: Callable[[int], int] | None = None
    """Ticks, hundredths of a second, of the frame of a number; None for a constant rate."""
    cut: tuple[float, float | None] | None = None
    """Bounds in seconds, cut without decoding as by `ffmpeg -ss -to -c copy`."""
    patch: tuple[bytes, bytes] | None = None
    """Bytes of the file to replace by others of the same number."""
    asked: int = 100
    """N, how many frames the conformance suite takes."""

    @property
    def numbers(self) -> list[int]:
        """Numbers of the presented frames, in order."""
        return [number for number, _ in self._shown()]

    @property
    def seconds(self) -> np.ndarray:
        """Presentation times from the first frame, in order."""
        times = np.array([time for _, time in self._shown()])
        return times - times[0]

    def _shown(self) -> list[tuple[int, float]]:
        begin, end = self.cut or (0.0, None)
        every = [
            (number, self.times(number) / 100 if self.times else number / self.rate)
            for number in range(self.frames)
        ]
        return [
            (number, time)
            for number, time in every
            if time >= begin - 1e-9 and (end is None or time < end - 1e-9)
        ]

    def write(self, folder: Path) -> Path:
        """Encodes the file."""
        path = folder / self.name
        if self.cut is None:
            encode(
                path, self.frames, codec=self.codec, options=self.options, muxing=self.muxing,
                pixel_format=self.pixel_format, size=self.size, rotation=self.rotation, rate=self.rate,
                ticks=[self.times(n) for n in range(self.frames)] if self.times else None,
            )  # fmt: skip
            if self.patch is not None:
                path.write_bytes(path.read_bytes().replace(*self.patch))
            return path
        whole = folder / f"whole-{self.name}"
        encode(whole, self.frames, codec=self.codec, options=self.options, size=self.size)
        cut_without_decoding(whole, path, *self.cut)
        return path


def encode(
    path: Path,
    frames: int,
    *,
    codec: str = "libx264",
    rate: int = RATE,
    rotation: int = 0,
    ticks: list[int] | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (96, 64),
) -> None:
    """Encodes numbered pictures; `rotation` turns them so that they play upright."""
    width, height = size if rotation % 180 == 0 else size[::-1]
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if ticks is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            picture = np.ascontiguousarray(
                np.rot90(numbered_picture(number, *size), -rotation // 90)
            )
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if ticks is not None:
                frame.pts, frame.time_base = ticks[number], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def cut_without_decoding(source: Path, target: Path, start: float, end: float | None) -> None:
    """Copies packets from the key frame before `start` on, with the times of the cut.

    What lies before the cut gets negative times: MP4 hides it by an edit list.
    """
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        old = reader.streams.video[0]
        new = writer.add_stream_from_template(old)
        reader.seek(round(start / old.time_base), stream=old)
        shift = round(start / old.time_base)
        for packet in reader.demux(old):
            if packet.dts is None or (end is not None and packet.pts * old.time_base >= end):
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = new
            writer.mux(packet)


def _uneven(number: int) -> int:
    """A rate that changes from 50 to 2 frames a second, with a long still in between."""
    return number * 2 + max(number - 60, 0) * 48 + (3000 if number >= 100 else 0)


_CLOSED = {"g": "24", "keyint_min": "24", "sc_threshold": "0", "bf": "3"}
_OPEN = {"g": "24", "bf": "3", "x264-params": "open-gop=1:keyint=24:min-keyint=24:scenecut=0"}
_HEVC = {"x265-params": "keyint=48:min-keyint=48:open-gop=1:log-level=none", "preset": "superfast"}
_HEVC_CLOSED = {
    "x265-params": "keyint=24:min-keyint=24:open-gop=0:log-level=none",
    "preset": "superfast",
}
_PART2 = {"g": "24", "bf": "2", "b": "2M"}
_VPX = {"g": "24", "b": "2M", "auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "8"}
_AV1 = {"g": "24", "preset": "12", "crf": "20", "svtav1-params": "lp=1"}
_MPEG = {"g": "12", "bf": "2", "b": "2M"}

KINDS: tuple[Numbered, ...] = (
    Numbered(name="h264.mp4", options=_CLOSED),
    Numbered(name="h264.mkv", options=_CLOSED),
    Numbered(name="h264-128.mp4", options=_CLOSED, size=(128, 64)),
    Numbered(name="h264-sparse.mp4", options={"g": "250"}, frames=2400, asked=12, size=(128, 64)),
    Numbered(name="h264-sparse.mkv", options={"g": "250"}, frames=2400, asked=12, size=(128, 64)),
    Numbered(name="h264-fragmented.mp4", options=_CLOSED, size=(128, 64),
             muxing={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    Numbered(name="h264-open-gop.mp4", options=_OPEN, size=(128, 64)),
    Numbered(name="h264-open-gop.mkv", options=_OPEN, size=(128, 64)),
    Numbered(name="h264-intra-refresh.mkv", size=(128, 64),
             options={"x264-params": "intra-refresh=1:keyint=24:bframes=0:scenecut=0"}),
    Numbered(name="h264-intra-refresh-cuts.mkv", size=(128, 64),
             options={"x264-params": "intra-refresh=1:keyint=24:bframes=0"}),
    Numbered(name="h264-all-marked-key.mp4", size=(128, 64), options=_CLOSED,
             patch=(b"stss", b"free")),
    Numbered(name="hevc-all-marked-key.mp4", size=(128, 64), codec="libx265", options=_HEVC,
             patch=(b"stss", b"free")),
    Numbered(name="h264-interlaced.mp4", size=(128, 64),
             options={"g": "24", "bf": "2", "flags": "+ilme+ildct"}),
    Numbered(name="h264.ts", options=_CLOSED),
    Numbered(name="h264.flv", options=_CLOSED, size=(128, 64)),
    Numbered(name="h264.avi", options=_CLOSED),
    Numbered(name="h264.h264", options=_CLOSED),
    Numbered(name="h264-cut.mp4", options=_CLOSED, size=(128, 64), cut=(3.3, None)),
    Numbered(name="h264-cut-both.mp4", options=_CLOSED, size=(128, 64), cut=(3.3, 11.0)),
    Numbered(name="h264-cut-open-gop.mp4", options=_OPEN, size=(128, 64), cut=(3.3, None)),
    Numbered(name="hevc-open-gop.mp4", size=(128, 64), codec="libx265", options=_HEVC),
    Numbered(name="hevc-open-gop.mkv", size=(128, 64), codec="libx265", options=_HEVC),
    Numbered(name="hevc-closed-gop.mp4", size=(128, 64), codec="libx265", options=_HEVC_CLOSED),
    Numbered(name="hevc.ts", codec="libx265", options=_HEVC),
    Numbered(name="hevc-cut.mp4", size=(128, 64), codec="libx265", options=_HEVC, cut=(3.3, None)),
    Numbered(name="hevc-10bit.mp4", codec="libx265", options=_HEVC, pixel_format="yuv420p10le"),
    Numbered(name="h264-10bit.mp4", options=_CLOSED, pixel_format="yuv420p10le"),
    Numbered(name="h264-444.mp4", options=_CLOSED, pixel_format="yuv444p"),
    Numbered(name="h264-gray.mp4", options=_CLOSED, pixel_format="gray"),
    Numbered(name="h264-odd.mp4", options=_CLOSED, pixel_format="yuv444p", size=(121, 67)),
    Numbered(name="vp8.webm", codec="libvpx", options=_VPX, size=(128, 64)),
    Numbered(name="vp9.webm", codec="libvpx-vp9", options=_VPX, size=(128, 64)),
    Numbered(name="vp9-odd.mkv", codec="libvpx-vp9", options=_VPX, size=(121, 67)),
    Numbered(name="av1.mkv", size=(128, 64), codec="libsvtav1", options=_AV1),
    Numbered(name="av1.mp4", size=(128, 64), codec="libsvtav1", options=_AV1),
    Numbered(name="mpeg4-b.avi", codec="mpeg4", options=_PART2),
    Numbered(name="mpeg4-b.mp4", size=(128, 64), codec="mpeg4", options=_PART2),
    Numbered(name="mpeg2.ts", codec="mpeg2video", options=_MPEG, rate=25),
    Numbered(name="mpeg1.mpg", codec="mpeg1video", options=_MPEG, rate=25),
    Numbered(name="mjpeg.mov", codec="mjpeg", options={"b": "4M"}, pixel_format="yuvj420p"),
    Numbered(name="vfr.mkv", options={"bf": "0", "g": "24"}, times=_uneven, size=(128, 64)),
    Numbered(name="vfr-b.mp4", options={"bf": "2", "g": "24"}, times=_uneven, size=(128, 64)),
    Numbered(name="late-start.mp4", options={"bf": "0", "g": "24"}, size=(128, 64),
             times=lambda number: 100 + 10 * number),
    Numbered(name="rotated-90.mp4", rotation=90, size=(128, 64)),
    Numbered(name="rotated-180.mp4", rotation=180, size=(128, 64)),
    Numbered(name="rotated-270.mp4", rotation=270, size=(128, 64)),
    Numbered(name="one-frame.mp4", frames=1, size=(128, 64)),
    Numbered(name="three-frames.mkv", frames=3, size=(128, 64)),
    Numbered(name="99-frames.mp4", frames=99, size=(128, 64)),
)  # fmt: skip
"""Every kind of the conformance suite."""
