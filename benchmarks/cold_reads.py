"""What reading around the page cache (O_DIRECT) costs, for clips that are not in it.

    python -m benchmarks.cold_reads [--clips 200] [--rounds 3] [--threads 1,4,8] [--no-write]

The same shard files are read through the page cache, after the kernel was told to drop them, and around
it. Ratios are what is comparable: they are of one round.
"""

import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.clip_readers import ClipSize, write_store
from benchmarks.result_file import benchmark_parser, publish
from cache_schema import FeatureStore, open_store

Read = Callable[[int], object]
REFERENCE = "page cache, no checksums"


def shard_files(store: Path, names: list[str]) -> list[Path]:
    """The patch shards of clips, in their order."""
    rows = open_store(store).rows(names, ["segment", "slot"]).to_pylist()
    return [store / f"seg-{r['segment']:06d}" / "patch" / f"c.{r['slot']}.0.0.0" for r in rows]


def reader(store: FeatureStore, names: list[str], out: np.ndarray) -> Read:
    """Reads a clip into one of the buffers in `out`."""
    return lambda clip: store.read_patches([names[clip]], out=out[clip % len(out)][None])


def drop(files: list[Path]) -> None:
    """Tells the kernel to forget the files' pages."""
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(
    readers: dict[str, Read], files: list[Path], threads: list[int], rounds: int
) -> dict[tuple[str, int], list[tuple[float, float]]]:
    """Returns wall and CPU seconds of reading all files, by reader and number of threads."""
    found = defaultdict(list)
    for _ in range(rounds):
        for count in threads:
            for name, read in readers.items():
                drop(files)
                begin, spent = time.perf_counter(), time.process_time()
                with ThreadPoolExecutor(count) as pool:
                    for _ in pool.map(read, range(len(files))):
                        pass
                taken = time.perf_counter() - begin, time.process_time() - spent
                found[name, count].append(taken)
    return found


def table(found: dict[tuple[str, int], list[tuple[float, float]]], read: int) -> list[str]:
    """Returns the figures of reading some bytes as the lines of a Markdown table."""
    reference = found[REFERENCE, min(count for _, count in found)]
    lines = [
        "| way | threads | GB/s | x the reference | CPU seconds a GB | x the reference |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for (name, count), taken in sorted(found.items(), key=lambda item: item[0][1]):
        wall, cpu = (statistics.median(each) for each in zip(*taken, strict=True))
        pairs = list(zip(taken, reference, strict=True))
        faster = statistics.median(base[0] / own[0] for own, base in pairs)
        dearer = statistics.median(own[1] / base[1] for own, base in pairs)
        lines.append(
            f"| {name} | {count} | {read / 1e9 / wall:.2f} | {faster:.2f} | {cpu / read * 1e9:.2f} "
            f"| {dearer:.2f} |"
        )
    return lines


def main(size: ClipSize = ClipSize(dim=512)) -> int:  # noqa: B008 -- frozen
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clips", type=int, default=200, help="clips in the store")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, all of which count")
    parser.add_argument("--threads", default="1,4,8", help="numbers of threads, by commas")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: temporary")
    options = parser.parse_args()
    names = [f"clip-{number:04d}" for number in range(options.clips)]
    threads = [int(count) for count in options.threads.split(",")]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        store = Path(folder, "store")
        one = np.random.default_rng(0).standard_normal(size.shape, np.float32).astype(np.float16)
        write_store(store, names, np.broadcast_to(one, (len(names), *size.shape)), size)
        files = shard_files(store, names)
        out = np.zeros((16, *size.shape), np.float16)
        readers = {
            f"{way}, {checks}": reader(open_store(store, direct=direct, check=check), names, out)
            for check, checks in ((False, "no checksums"), (True, "crc32c"))
            for direct, way in ((False, "page cache"), (True, "O_DIRECT"))
        }
        found = measure(readers, files, threads, options.rounds)
    publish(
        "cold-reads",
        "Reading clips that are not in the page cache",
        options,
        packages=["numpy"],
        notes=[
            f"{len(names)} clips of {list(size.shape)} float16, {size.bytes / 1e6:.2f} MB each",
            "a virtual disk, whose host may still hold what this machine has dropped; medians",
            f"ratios: the reference is {REFERENCE}, with the fewest threads, of the same round",
        ],
        body=table(found, len(names) * size.bytes),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
