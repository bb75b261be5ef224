"""How fast a store is read, against np.memmap and zarr-python in the same run.

    python -m benchmarks.store_read [--clips 48] [--rounds 5] [--stores 5] [--no-write]

The reference is a copy out of a np.memmap that stays open, of one uncompressed file with the same
features: no format can be read faster through the page cache. Absolute times are this machine's;
the ratios are what is comparable. Readers take turns clip by clip, so that a load on the machine
falls on all of them alike.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cache_schema import (
    ClipOutcome,
    FeatureIdentity,
    Preprocess,
    Status,
    StoreWriter,
    create_store,
    open_store,
)

FRAMES, PATCHES, DIM = 100, 49, 768
CHOSEN = 16
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to read one clip: called with the clip's place in the list."""

    name: str
    reference: str
    limit: float | None
    read: Callable[[int], object]


def build_store(folder: Path, clips: int) -> tuple[Path, list[str], np.memmap]:
    """Writes the same random features into a store and into one flat file."""
    identity = FeatureIdentity(
        encoder="benchmark",
        weights_sha256="0" * 64,
        quick_gelu=False,
        token_space="trunk",  # noqa: S106 -- no password
        dim=DIM,
        patches=PATCHES,
        preprocess=Preprocess(
            image_size=224,
            resize_mode="shortest",
            interpolation="bicubic",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        frames=FRAMES,
        precision="fp32",
    )
    store = folder / "store"
    create_store(store, identity)
    rng = np.random.default_rng(0)
    flat = np.memmap(
        folder / "flat", mode="w+", dtype=np.float16, shape=(clips, FRAMES, PATCHES, DIM)
    )
    names = [f"clip-{number:04d}" for number in range(clips)]
    with StoreWriter(store, identity) as writer:
        for done in range(0, clips, writer.block_slots):
            claim = writer.claim(names[done : done + writer.block_slots])
            if claim is None:
                raise SystemExit("The new store's clips are claimed by someone else.")
            count = len(claim.clip_ids)
            shape = (count, FRAMES, PATCHES, DIM)
            patch = rng.standard_normal(shape, dtype=np.float32).astype(np.float16)
            flat[done : done + count] = patch
            outcomes = [
                ClipOutcome(
                    clip_id=clip_id,
                    status=Status.OK,
                    frame_index=np.arange(FRAMES, dtype=np.int32),
                    frame_time=np.arange(FRAMES, dtype=np.float64),
                    distinct_frames=FRAMES,
                )
                for clip_id in claim.clip_ids
            ]
            writer.write_block(claim, outcomes, patch[:, :, 0], patch)
        writer.compact()
    flat.flush()
    return store, names, flat


def contenders(store_path: Path, names: list[str], flat: np.memmap) -> list[Contender]:
    """Everything that takes part, each with the reference that it is compared with."""
    import zarr

    checked, unchecked = open_store(store_path), open_store(store_path, check=False)
    rows = checked.manifest().to_pylist()
    group = zarr.open_group(store_path, mode="r")
    arrays = [group[f"seg-{row['segment']:06d}/patch"] for row in rows]
    slots = [row["slot"] for row in rows]
    whole = np.empty((1, FRAMES, PATCHES, DIM), dtype=np.float16)
    part = np.empty((1, CHOSEN, PATCHES, DIM), dtype=np.float16)
    chosen = np.sort(np.random.default_rng(1).choice(FRAMES, CHOSEN, replace=False))
    frames = chosen[None]
    for position, name in enumerate(names):
        np.testing.assert_array_equal(checked.read_patches([name])[0], flat[position])
        np.testing.assert_array_equal(
            checked.read_patches([name], frames)[0], flat[position, chosen]
        )
    full, some = "memmap, whole clip", f"memmap, {CHOSEN} of {FRAMES} frames"
    return [
        Contender(
            name=full, reference=full, limit=None, read=lambda i: np.copyto(whole[0], flat[i])
        ),
        Contender(
            name="store, whole clip, no checksums",
            reference=full,
            limit=1.5,
            read=lambda i: unchecked.read_patches([names[i]], out=whole),
        ),
        Contender(
            name="store, whole clip, crc32c",
            reference=full,
            limit=2.5,
            read=lambda i: checked.read_patches([names[i]], out=whole),
        ),
        Contender(
            name="zarr-python, whole clip",
            reference=full,
            limit=None,
            read=lambda i: arrays[i][slots[i]],
        ),
        Contender(
            name=some,
            reference=some,
            limit=None,
            read=lambda i: np.take(flat[i], chosen, axis=0, out=part[0], mode="clip"),
        ),
        Contender(
            name=f"store, {CHOSEN} of {FRAMES} frames, no checksums",
            reference=some,
            limit=2.0,
            read=lambda i: unchecked.read_patches([names[i]], frames, out=part),
        ),
        Contender(
            name=f"store, {CHOSEN} of {FRAMES} frames, crc32c",
            reference=some,
            limit=None,
            read=lambda i: checked.read_patches([names[i]], frames, out=part),
        ),
        Contender(
            name=f"zarr-python, {CHOSEN} of {FRAMES} frames by oindex",
            reference=some,
            limit=None,
            read=lambda i: arrays[i].oindex[slots[i], chosen],
        ),
    ]


def measure(readers: list[Contender], clips: int, rounds: int) -> dict[str, list[float]]:
    """Returns the milliseconds of every read but those of a first round, which warms up.

    The fast readers take turns clip by clip; zarr-python reads an eighth of the clips after them,
    so that its work does not disturb the processor's caches between two fast reads.
    """
    times: dict[str, list[float]] = {reader.name: [] for reader in readers}
    fast = [reader for reader in readers if not reader.name.startswith("zarr")]
    slow = [reader for reader in readers if reader.name.startswith("zarr")]
    for turn in range(rounds + 1):
        for group, step in ((fast, 1), (slow, 8)):
            for clip in range(0, clips, step):
                for reader in group:
                    start = time.perf_counter()
                    reader.read(clip)
                    if turn:
                        times[reader.name].append((time.perf_counter() - start) * 1e3)
    return times


def table(readers: list[Contender], repeats: list[dict[str, list[float]]]) -> list[str]:
    """Returns the result as the lines of a Markdown table: medians, and their range over stores."""
    lines = ["| read | ms | x reference | from | to | aim |", "|---|--:|--:|--:|--:|--:|"]
    for reader in readers:
        medians = [statistics.median(times[reader.name]) for times in repeats]
        bases = [statistics.median(times[reader.reference]) for times in repeats]
        ratios = [own / base for own, base in zip(medians, bases, strict=True)]
        aim = "" if reader.limit is None else f"<= {reader.limit}"
        lines.append(
            f"| {reader.name} | {statistics.median(medians):.3f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} | {max(ratios):.2f} | {aim} |"
        )
    return lines


def hardware() -> str:
    """Returns the processor's name and the number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{name or platform.machine()}, {cores} cores"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=48, help="clips of 7.5 MB in the store")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--stores", type=int, default=5, help="times that all is written anew")
    parser.add_argument("--folder", type=Path, help="where the store is built; default: temporary")
    parser.add_argument("--no-write", action="store_true", help="keep no result file")
    options = parser.parse_args()
    repeats = []
    # How the kernel lays a file out in memory differs from one writing to the next.
    for _ in range(options.stores):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            store, names, flat = build_store(Path(folder), options.clips)
            readers = contenders(store, names, flat)
            repeats.append(measure(readers, options.clips, options.rounds))
    load = os.getloadavg()[0]
    command = (
        f"python -m benchmarks.store_read --clips {options.clips} --rounds {options.rounds} "
        f"--stores {options.stores}"
    )
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "zarr", "google-crc32c"))
    size = FRAMES * PATCHES * DIM * 2 / 1e6
    lines = [
        "# Reading a store, page cache warm",
        "",
        f"- date: {datetime.now(UTC).date().isoformat()}",
        f"- hardware: {hardware()}",
        f"- load average {load:.1f} at the end (shared machine), niceness {os.nice(0)}",
        f"- versions: Python {platform.python_version()}, {packages}, Linux {platform.release()}",
        f"- command: `{command}`",
        f"- features: {options.clips} clips of [{FRAMES}, {PATCHES}, {DIM}] float16, {size:.2f} MB each",
        "- every read goes into a reused buffer; the reference is a np.memmap that stays open",
        f"- medians over {options.stores} stores written in turn; from, to: the range of the ratio",
        "",
        *table(readers, repeats),
        "",
    ]
    sys.stdout.write("\n".join(lines))
    if not options.no_write:
        cores = len(os.sched_getaffinity(0))
        name = f"store-read_{platform.machine()}-{cores}core_{datetime.now(UTC).date()}.md"
        (RESULTS / name).write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
