"""How fast batches are supplied, against a copy out of np.memmap and against torch's DataLoader.

    python -m benchmarks.loader [--clips 200] [--rounds 5] [--threads 1,2,4] [--no-write]

The page cache is warm. Ratios are what is comparable: every loader's pass over the clips is compared
with a pass of the reference in the same round, into as many buffers of the same size, in the same order.
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.batch_files import BatchFiles, question_set, write_batch_files
from benchmarks.clip_readers import ClipSize
from benchmarks.loader_peers import peers
from benchmarks.result_file import benchmark_parser, publish
from cache_schema import open_store
from train.batches import BatchLoader
from train.config import TrainConfig
from train.epoch_order import Rows, epoch_batches
from train.features import FeatureReader, ResidentFeatures
from train.question_set import QuestionSet

PACKAGES = ("numpy", "torch", "google-crc32c", "zarr")
CHECKED = "loader, store, crc32c"
READ_AHEAD = 2
TRAINER_SPEED = 0.7
"""The simulated trainer's appetite, in parts of the reference's throughput."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a batch is."""

    clips: int = 16
    questions_per_clip: int = 4
    epochs: int = 4
    """Epochs in one pass, so that its beginning, when nothing is read ahead yet, weighs little."""


@dataclass(frozen=True, kw_only=True)
class Supply:
    """One way to supply the batches of an order."""

    name: str
    open: Callable[[], Iterator[object]]
    waited_s: Callable[[], float]


def named(reader: str, threads: int) -> str:
    """The name of the loader over some reader."""
    return f"{reader}, {threads} thread{'s' * (threads > 1)}"


def supplies(
    files: BatchFiles, questions: QuestionSet, order: list[Rows], shape: Shape, threads: list[int]
) -> list[Supply]:
    """The loader over the store with and without checksums, and over a copy in memory."""

    def supply(name: str, reader: FeatureReader, count: int) -> Supply:
        loader = BatchLoader(
            questions, reader, clips=shape.clips, read_ahead=READ_AHEAD, threads=count
        )
        return Supply(
            name=named(name, count),
            open=lambda: loader.batches((None, rows) for rows in order),
            waited_s=lambda: loader.waited_s,
        )

    readers = {
        CHECKED: open_store(files.store),
        "loader, store, no checksums": open_store(files.store, check=False),
    }
    held = ResidentFeatures(open_store(files.store), files.names)
    return [
        *(supply(name, reader, count) for name, reader in readers.items() for count in threads),
        supply("loader, copy in memory", held, max(threads)),
    ]


def memmap_copy(
    files: BatchFiles, questions: QuestionSet, order: list[Rows], shape: Shape
) -> Callable[[], None]:
    """The reference: the same clips in the same order, copied from np.memmap by one thread."""
    size, copies = files.size, READ_AHEAD + 1
    cls = np.zeros((copies, shape.clips, size.frames, size.dim), np.float16)
    patch = np.zeros((copies, shape.clips, *size.shape), np.float16)
    clips = [np.unique(questions.clip_of_question[rows]) for rows in order]

    def copy() -> None:
        for number, asked in enumerate(clips):
            for place, clip in enumerate(asked):
                np.copyto(cls[number % copies, place], files.cls[clip])
                np.copyto(patch[number % copies, place], files.patch[clip])

    return copy


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def drain(batches: Iterator[object]) -> None:
    """Asks for every batch and does nothing with it."""
    for _ in batches:
        pass


def train_simulated(supply: Supply, step_s: float) -> float:
    """Returns the share of its time that a trainer waits which sleeps for `step_s` a batch."""
    waited, started = supply.waited_s(), time.perf_counter()
    for _ in supply.open():
        time.sleep(step_s)
    return (supply.waited_s() - waited) / (time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Results of all rounds, in the order of the rows."""

    reference: list[float]
    """Bytes a second of the memmap copy."""
    speed: dict[str, list[float]]
    """Bytes a second of every way."""
    waits: dict[str, list[float]]
    """Share of its time that the simulated trainer waits."""


def measure(files: BatchFiles, shape: Shape, threads: list[int], rounds: int) -> Measured:
    """Runs all ways in turns, each after a pass of the reference."""
    questions = question_set(files.names, shape.questions_per_clip, files.size.dim)
    order = [
        rows
        for epoch in range(shape.epochs)
        for rows in epoch_batches(
            questions.clip_of_question, 1, epoch, shape.clips, shape.questions_per_clip
        )
    ]
    read = sum(len(np.unique(questions.clip_of_question[rows])) for rows in order)
    copy = memmap_copy(files, questions, order, shape)
    ways = supplies(files, questions, order, shape, threads)
    others = peers(files, shape.clips, zarr_clips=max(shape.clips, len(files.names) // 4))
    reference: list[float] = []
    speed, waits = defaultdict(list), defaultdict(list)
    for turn in range(rounds + 1):
        found = {"memmap copy": read * files.clip_bytes / seconds(copy)}
        for way in ways:
            with closing(way.open()) as batches:
                found[way.name] = read * files.clip_bytes / seconds(lambda b=batches: drain(b))
        step_s = shape.clips * files.clip_bytes / (TRAINER_SPEED * found["memmap copy"])
        share = {way.name: train_simulated(way, step_s) for way in ways}
        for name, pass_over in others.items():
            started = time.perf_counter()
            clips = next(pass_over)
            found[name] = clips * files.clip_bytes / (time.perf_counter() - started)
        if turn:  # The first round warms up, and starts the workers.
            reference.append(found["memmap copy"])
            for name, value in found.items():
                speed[name].append(value)
            for name, value in share.items():
                waits[name].append(value)
    return Measured(reference=reference, speed=dict(speed), waits=dict(waits))


def table(found: Measured) -> list[str]:
    """Returns the result as lines of Markdown: medians, and the range of the ratio."""
    lines = [
        "| way | GB/s | x memmap | from | to | simulated trainer waits |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, values in found.speed.items():
        ratios = [value / own for value, own in zip(values, found.reference, strict=True)]
        waits = found.waits.get(name)
        share = "" if waits is None else f"{statistics.median(waits):.1%}"
        lines.append(
            f"| {name} | {statistics.median(values) / 1e9:.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} | {max(ratios):.2f} | {share} |"
        )
    return [*lines, "", *comparisons(found)]


def comparisons(found: Measured) -> list[str]:
    """Returns the ratios that there are aims for: of a run's default, and of the best threads."""

    def best(start: str) -> str:
        names = [name for name in found.speed if name.startswith(start)]
        return max(names, key=lambda name: statistics.median(found.speed[name]))

    def times(one: str, other: str) -> float:
        pairs = zip(found.speed[one], found.speed[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    default = named(CHECKED, TrainConfig().read_threads)
    ways = [way for way in (default, best(CHECKED)) if way in found.speed]
    ways.append(best("loader, store, no checksums"))
    npy, zarr = best("DataLoader, .npy"), best("DataLoader, zarr")
    return [
        f"- {way}: {times(way, 'memmap copy'):.2f} x memmap (aim 0.8), {times(way, zarr):.1f} x {zarr} "
        f"(aim 5), {times(way, npy):.1f} x {npy} (aim 2), simulated trainer waits "
        f"{statistics.median(found.waits[way]):.1%} (aim 5 %)"
        for way in dict.fromkeys(ways)
    ]


def main(size: ClipSize = ClipSize(dim=512)) -> int:  # noqa: B008 -- frozen
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clips", type=int, default=200, help="clips in the store")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--threads", default="1,2,4", help="numbers of threads, by commas")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: temporary")
    options = parser.parse_args()
    shape, threads = Shape(), [int(count) for count in options.threads.split(",")]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        files = write_batch_files(Path(folder), options.clips, size)
        found = measure(files, shape, threads, options.rounds)
        clip_bytes = files.clip_bytes
    publish(
        "loader",
        "Supplying batches, page cache warm",
        options,
        packages=PACKAGES,
        notes=[
            (
                f"{options.clips} clips of {list(size.shape)} patches and CLS features, float16, "
                f"{clip_bytes / 1e6:.2f} MB each; batches of {shape.clips} clips, "
                f"{shape.questions_per_clip} questions about each"
            ),
            f"a pass is {shape.epochs} epochs, of a DataLoader one, of that over zarr-python a quarter",
            "memmap copy: the same clips in the same order, by one thread, into three reused batch buffers",
            f"simulated trainer: sleeps the time in which {TRAINER_SPEED:.0%} of the memmap's speed brings a batch",
            "medians over rounds; from, to: the range of the ratio",
        ],
        body=table(found),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
