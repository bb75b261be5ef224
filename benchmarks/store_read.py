"""How fast a store is read, against what else people keep features in, in the same run.

    python -m benchmarks.store_read [--clips 48] [--rounds 9] [--stores 5] [--no-write]

Absolute times are this machine's; the ratios are what is comparable. Readers take turns clip by clip,
and a ratio is that of two reads of one clip in one turn, so that a load on the machine falls on both.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.clip_readers import ClipSize, Contender, contenders, write_files
from benchmarks.result_file import benchmark_parser, publish

PACKAGES = ("numpy", "google-crc32c", "zarr", "tensorstore", "h5py")

Times = dict[str, np.ndarray]
"""Milliseconds of every read of a contender, float64 [rounds, clips]; NaN where it did not read."""


def measure(readers: list[Contender], clips: int, rounds: int) -> Times:
    """Returns the milliseconds of every read but those of a first round, which warms up.

    The fast readers take turns clip by clip; the slow ones read an eighth of the clips after them, each
    after the reference, so that their work does not disturb the processor's caches between two fast
    reads.
    """
    times = {reader.name: np.full((rounds, clips), np.nan) for reader in readers}
    fast = [reader for reader in readers if not reader.slow]
    slow = [reader for reader in readers if reader.slow]
    for turn in range(-1, rounds):
        for group, step in ((fast, 1), (slow, 8)):
            for clip in range(0, clips, step):
                for reader in group:
                    start = time.perf_counter()
                    reader.read(clip)
                    if turn >= 0:
                        times[reader.name][turn, clip] = (time.perf_counter() - start) * 1e3
    return times


def table(readers: list[Contender], stores: list[Times]) -> list[str]:
    """Returns the result as the lines of a Markdown table: medians, and their range over stores."""
    lines = ["| read | ms | x reference | from | to | aim |", "|---|--:|--:|--:|--:|--:|"]
    for reader in readers:
        times = [float(np.nanmedian(store[reader.name])) for store in stores]
        ratios = [
            float(np.nanmedian(store[reader.name] / store[reader.reference])) for store in stores
        ]
        aim = "" if reader.limit is None else f"<= {reader.limit}"
        lines.append(
            f"| {reader.name} | {statistics.median(times):.3f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} | {max(ratios):.2f} | {aim} |"
        )
    return lines


def main(size: ClipSize = ClipSize()) -> int:  # noqa: B008 -- frozen
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clips", type=int, default=48, help="clips in the store")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that are counted")
    parser.add_argument("--stores", type=int, default=5, help="times that all is written anew")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: temporary")
    options = parser.parse_args()
    stores = []
    # How the kernel lays a file out in memory differs from one writing to the next.
    for _ in range(options.stores):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            readers = contenders(write_files(Path(folder), options.clips, size))
            stores.append(measure(readers, options.clips, options.rounds))
    publish(
        "store-read",
        "Reading a clip, page cache warm",
        options,
        packages=PACKAGES,
        notes=[
            f"{options.clips} clips of {list(size.shape)} float16, {size.bytes / 1e6:.2f} MB each",
            "into a reused buffer, but for .npy files, tensorstore and zarr-python, which make a new array",
            "the reference is a np.memmap that stays open; a ratio is that of two reads of one clip in a turn",
            f"medians over {options.stores} times that all was written; from, to: the range of the ratio",
        ],
        body=table(readers, stores),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
