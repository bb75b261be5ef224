"""What supplying batches costs against the size of the data: stores of more and more clips.

    python -m benchmarks.data_size [--clips 200 2000 20000] [--batches 200] [--no-write]

Clips are small, so that what grows with their number would show; each size is measured in a process of
its own, page cache warm. Ratios are to the smallest store of the run.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.batch_files import question_set
from benchmarks.clip_readers import ClipSize, write_store
from benchmarks.result_file import benchmark_parser, publish
from cache_schema import open_store
from train.batches import BatchLoader
from train.epoch_order import START, training_order

SIZE = ClipSize(frames=20, patches=8, dim=64)
CLIPS, QUESTIONS, THREADS = 16, 4, 4
"""Of a batch: clips, questions about each, reading threads."""


def measure(store: Path, names: list[str], batches: int) -> dict[str, float]:
    """Process body: seconds and memory of a loader's life over one store."""
    before = resident_mb()
    begin = time.perf_counter()
    questions = question_set(names, QUESTIONS, SIZE.dim)
    asked = time.perf_counter()
    loader = BatchLoader(questions, open_store(store), clips=CLIPS, read_ahead=2, threads=THREADS)
    order = training_order(questions.clip_of_question, 0, CLIPS, QUESTIONS, START)
    supply = loader.batches(islice(order, batches + 1))
    next(supply)
    first = time.perf_counter()
    for _ in supply:
        pass
    each = (time.perf_counter() - first) / batches
    return {
        "questions": (asked - begin) * 1e3,
        "first": (first - asked) * 1e3,
        "batch": each * 1e3,
        "memory": resident_mb() - before,
    }


def resident_mb() -> float:
    """Memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def measure_size(folder: Path, clips: int, batches: int) -> dict[str, float]:
    """Write a store of some clips, and measure it in a new process, the second time of two."""
    names = [f"clip-{number:06d}" for number in range(clips)]
    one = np.random.default_rng(0).standard_normal(SIZE.shape, np.float32).astype(np.float16)
    write_store(folder / "store", names, np.broadcast_to(one, (clips, *SIZE.shape)), SIZE)
    context = multiprocessing.get_context("spawn")
    found = {}
    for _ in range(2):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            found = pool.submit(measure, folder / "store", names, batches).result()
    return found


def table(results: dict[int, dict[str, float]]) -> list[str]:
    """Returns the figures as the lines of a Markdown table, a row a size."""
    least = results[min(results)]
    lines = [
        "| clips | set up questions, ms | open, first batch, ms | a batch, ms | x smallest | memory, MB |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {clips:,} | {found['questions']:.0f} | {found['first']:.0f} | {found['batch']:.2f} "
        f"| {found['batch'] / least['batch']:.2f} | {found['memory']:.0f} |"
        for clips, found in results.items()
    ]
    return lines


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[200, 2000, 20000])
    parser.add_argument("--batches", type=int, default=200, help="batches that are counted")
    parser.add_argument("--folder", type=Path, help="where the stores are made; default: temporary")
    options = parser.parse_args()
    results = {}
    for clips in options.clips:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            results[clips] = measure_size(Path(folder), clips, options.batches)
    publish(
        "data-size",
        "Supplying batches, by the size of the data",
        options,
        packages=["numpy", "torch", "google-crc32c"],
        notes=[
            (
                f"clips of {list(SIZE.shape)} float16, {SIZE.bytes / 1e3:.0f} kB each; batches of {CLIPS} "
                f"clips, {QUESTIONS} questions about each, {THREADS} threads, every crc32c compared"
            ),
            (
                "of the smallest store each clip is read many times, of the largest at most once or twice: "
                "the first reading of a clip's shards opens their files and reads their indexes"
            ),
            "memory: by how much the process grew beyond its imports, the table of questions included",
        ],
        body=table(results),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
