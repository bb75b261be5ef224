"""Which decoder serves which file, and how many of the frames it returns are the right ones.

    python -m benchmarks.decoder_conformance [--samples FOLDER] [--borrow-ffmpeg] [--no-write]

Numbered videos of every kind are written first; their frames are read off the pictures. Files of
`--samples` have no numbers: there everything is decoded in order, picture by picture, and the frames
must equal those bit by bit. The table goes into docs/decoders.md, between two marks. Exit code 1 if
any frame was wrong.
"""

import argparse
import functools
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import av
import av.logging
import numpy as np

from benchmarks.numbered_videos import KINDS, Numbered, number_in
from cache_schema import Preprocess
from extract.clip_frames import read_clip
from extract.decoder_choice import DecoderAbsent, load_decoder, offered_decoders
from extract.frame_choice import choose_frames
from extract.frame_request import Backend, FrameRequest
from extract.limits import DecodeLimits
from extract.preprocessing import to_encoder_input
from extract.probe import probe_video
from extract.refusal import ClipRefused
from extract.source_file import SourceReader
from extract.upright_rgb import RgbConverter

PAGE = Path(__file__).parents[1] / "docs" / "decoders.md"
SAMPLES = Path(__file__).parents[2] / "shared" / "samples" / "videos"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
ASKED = 100
_SQUASHED = Preprocess(
    image_size=192, resize_mode="squash", interpolation="bilinear",
    mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
)  # fmt: skip
"""Nothing is cropped away: the numbers stay readable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Served:
    """How one backend did on one file."""

    file: str
    backend: Backend
    by: str
    """Library that delivered the frames; empty for a file that was refused."""
    why: str
    """Why it is not the backend that was asked, or why the file was refused."""
    right: int
    asked: int

    @property
    def cell(self) -> str:
        """The result as a cell of the table."""
        if not self.by:
            return f"refused: {self.why}"
        score = f"{self.right}/{self.asked}"
        return f"**{score}**" if self.by == self.backend else f"PyAV {score}: {self.why}"


def request_for(path: Path, backend: Backend, frames: int) -> FrameRequest:
    """Asks for the whole file."""
    return FrameRequest(
        path=path, root=None, start_s=None, end_s=None, frames=frames, preprocess=_SQUASHED,
        limits=DecodeLimits(), backend=backend,
    )  # fmt: skip


def check_numbered(kind: Numbered, path: Path, backend: Backend) -> Served:
    """Compares the numbers in the pictures with those that the contract asks for.

    Every picture must also equal, bit by bit, that of a slow decoding of everything in order.
    """
    seconds = kind.seconds
    last = float(np.median(np.diff(seconds))) if seconds.size > 1 else 1 / kind.rate
    choice = choose_frames(seconds, 0.0, float(seconds[-1]) + last, kind.asked)
    expected = [kind.numbers[place] for place in choice.index]

    def right(pixels: np.ndarray, slot: np.ndarray) -> int:
        found = [number_in(picture) for picture in pixels]
        slow, _ = slow_frames(path, kind.asked)
        same = [np.array_equal(one, two) for one, two in zip(pixels, slow, strict=True)]
        return sum(
            found[place] == number and same[place]
            for place, number in zip(slot, expected, strict=True)
        )

    return _check(path, backend, kind.asked, right)


def check_sample(path: Path, backend: Backend) -> Served:
    """Compares the pictures with those of a slow decoding of everything in order."""

    def right(pixels: np.ndarray, slot: np.ndarray) -> int:
        expected, places = slow_frames(path, ASKED)
        if not np.array_equal(places, slot):
            return 0
        return sum(np.array_equal(pixels[place], expected[place]) for place in slot)

    return _check(path, backend, ASKED, right)


def _check(path: Path, backend: Backend, frames: int, right) -> Served:
    request = request_for(path, backend, frames)
    try:
        source = SourceReader().read(path)
        probe = probe_video(path, request.limits)
        clip = read_clip(request, source, probe)
    except ClipRefused as refused:
        return Served(
            file=path.name, backend=backend, by="", why=refused.reason, right=0, asked=frames
        )
    by = clip.backend.partition(" ")[0].replace("decord2", "decord")
    why = "" if by == backend else load_decoder(backend).objection(probe) or "stopped at an error"
    return Served(
        file=path.name, backend=backend, by=by, why=why,
        right=right(clip.pixels, clip.slot), asked=frames,
    )  # fmt: skip


@functools.lru_cache(maxsize=1)
def slow_frames(path: Path, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Decodes everything in order, twice: once for the times, once for the chosen pictures.

    Returns:
        The distinct frames, uint8 [d, S, S, 3], and the place in them of each of the N frames.
    """
    times = sorted(float(time) for time, _ in _all_frames(path))
    seconds = np.array(times) - times[0]
    last = float(np.median(np.diff(seconds))) if seconds.size > 1 else 1 / 25
    choice = choose_frames(seconds, 0.0, float(seconds[-1]) + last, frames)
    wanted = set(choice.distinct.tolist())
    to_rgb = RgbConverter()
    pictures = [
        to_encoder_input(to_rgb(frame), _SQUASHED)
        for place, (_, frame) in enumerate(_all_frames(path))
        if place in wanted
    ]
    return np.stack(pictures), choice.slot


def _all_frames(path: Path) -> Iterator[tuple[float, av.VideoFrame]]:
    with av.open(f"file:{path}", metadata_errors="ignore") as container:
        stream = container.streams.best("video")
        stream.thread_count = 1  # how damage is mended depends on the threads
        count = 0
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in decoded:
                known = frame.pts is not None
                rate = float(stream.average_rate or 25)
                yield (float(frame.pts * stream.time_base) if known else count / rate), frame
                count += 1


def conformance_table(samples: Path) -> tuple[str, int]:
    """Runs everything; returns the table, and the number of files with a wrong frame."""
    offered = offered_decoders()
    names = [name for name, found in offered.items() if not isinstance(found, DecoderAbsent)]
    rows: list[tuple[str, list[Served]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            path = kind.write(Path(folder))
            rows.append((kind.name, [check_numbered(kind, path, name) for name in names]))
    rows.extend(
        (f"sample: {path.name}", [check_sample(path, name) for name in names])
        for path in (sorted(samples.iterdir()) if samples.is_dir() else ())
    )
    results = [result for _, row in rows for result in row]
    wrong = sum(bool(result.by) and result.right != result.asked for result in results)
    served = {
        name: sum(result.by == name == result.backend for result in results) for name in names
    }
    absent = "".join(f" {name} did not load." for name in offered if name not in names)
    versions = ", ".join(load_decoder(name).version for name in names)
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}; "
        f"{versions}.{absent} {len(rows)} files, served: "
        f"{', '.join(f'{name} {count}' for name, count in served.items())}. "
        f"Files with a wrong frame: {wrong}."
    )
    lines = [
        head,
        "",
        f"| file | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
        *(f"| {label} | {' | '.join(result.cell for result in row)} |" for label, row in rows),
    ]
    return "\n".join(lines), wrong


def borrowed_ffmpeg(folder: Path) -> dict[str, str]:
    """Lends torchcodec the FFmpeg inside PyAV's wheel, under the names that it looks for.

    Returns:
        The environment for a new process.
    """
    libraries = Path(av.__file__).parents[1] / "av.libs"
    for library in libraries.glob("lib*-*.so.*"):
        name, _, version = library.name.partition(".so.")
        (folder / f"{name.rpartition('-')[0]}.so.{version.partition('.')[0]}").symlink_to(library)
    return {**os.environ, "LD_LIBRARY_PATH": f"{folder}{os.pathsep}{libraries}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="Folder of real videos.")
    parser.add_argument("--no-write", action="store_true", help="Print only.")
    parser.add_argument(
        "--borrow-ffmpeg", action="store_true", help="Let torchcodec use PyAV's FFmpeg (Linux)."
    )
    options = parser.parse_args()
    if options.borrow_ffmpeg:
        with tempfile.TemporaryDirectory() as folder:
            again = [word for word in sys.argv[1:] if word != "--borrow-ffmpeg"]
            command = [sys.executable, "-m", "benchmarks.decoder_conformance", *again]
            sys.exit(
                subprocess.run(command, env=borrowed_ffmpeg(Path(folder)), check=False).returncode
            )
    av.logging.set_level(None)
    table, wrong = conformance_table(options.samples)
    print(table)
    if not options.no_write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
