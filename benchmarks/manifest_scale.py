"""What a manifest of one and of ten million clips costs: to open, to look up in, to add to.

    python -m benchmarks.manifest_scale [--clips 1000000 10000000] [--folder /scratch] [--no-write]

The rows are made up, with 100 frame numbers and times each as real videos have them, and written by
the writer of the manifest's parts; the store has no features. Every figure comes from a process of its
own that has done nothing before. Needs 5 GB of disk for ten million clips, freed at the end.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.result_file import benchmark_parser, publish
from cache_schema import (
    BlockClaim,
    ClipOutcome,
    FeatureIdentity,
    Preprocess,
    Status,
    StoreWriter,
    create_store,
    open_store,
)
from cache_schema.blocks.block_commit import BlockCommit, CommittedClip, FileSeal
from cache_schema.blocks.block_runs import BlockRuns
from cache_schema.layout import COMMITS
from cache_schema.manifest.manifest_fold import fold_commits
from cache_schema.manifest.manifest_part import ManifestPart
from cache_schema.manifest.manifest_row import SCHEMA
from cache_schema.manifest.manifest_version import (
    ManifestVersion,
    newest_version,
    publish_version,
    read_version,
)
from cache_schema.manifest.part_entry import PartEntry
from cache_schema.manifest.part_merge import merge_parts
from cache_schema.manifest.part_writer import ROW_GROUP, PartWriter
from cache_schema.store_root import StoreRoot, read_root

FRAMES = 100
BLOCK_SLOTS, SEGMENT_SLOTS = 16, 4096
PART_ROWS = 1_000_000
LOOKED_UP = 1000
LISTED = 700_000
RATES = np.array([24000 / 1001, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001])


def clip_id(number: int) -> str:
    """Names a clip as video sites do: the order of the names is not that of the clips."""
    return f"{hashlib.blake2b(b'%d' % number, digest_size=6).hexdigest()}_{number % 97:04d}"


def rows(numbers: range, rng: np.random.Generator) -> Iterator[pa.Table]:
    """Makes up the rows of some clips, in the order of their ids, row group by row group."""
    named = sorted((clip_id(number), number) for number in numbers)
    for start in range(0, len(named), ROW_GROUP):
        some = named[start : start + ROW_GROUP]
        yield _row_group([name for name, _ in some], np.array([number for _, number in some]), rng)


def _row_group(ids: list[str], numbers: np.ndarray, rng: np.random.Generator) -> pa.Table:
    count = len(ids)
    duration, rate = rng.uniform(4, 120, count), rng.choice(RATES, count)
    middle = (np.arange(FRAMES) + 0.5) / FRAMES
    index = (middle * duration[:, None] * rate[:, None]).astype(np.int32)
    ticks = np.round(index / rate[:, None] * 12800)
    offsets = pa.array(np.arange(count + 1) * FRAMES, pa.int32())
    slots = numbers % SEGMENT_SLOTS
    columns = {
        "clip_id": pa.array(ids),
        "status": pa.array(["ok"] * count),
        "reason": pa.array([""] * count),
        "detail": pa.array([""] * count),
        "segment": pa.array(numbers // SEGMENT_SLOTS, pa.int32()),
        "block": pa.array(slots // BLOCK_SLOTS, pa.int32()),
        "slot": pa.array(slots, pa.int32()),
        "replaces": pa.array(np.zeros(count, np.bool_)),
        "frame_index": pa.ListArray.from_arrays(offsets, pa.array(index.reshape(-1))),
        "frame_time": pa.ListArray.from_arrays(offsets, pa.array((ticks / 12800).reshape(-1))),
        "distinct_frames": pa.array(np.full(count, FRAMES), pa.int32()),
        "source_path": pa.array([f"videos/{name[:2]}/{name[:12]}.mp4" for name in ids]),
        "source_bytes": pa.array(rng.integers(1 << 20, 1 << 26, count)),
        "source_digest": _digests(rng, count),
        "backend": pa.array(["pyav 18.1.0"] * count),
        "flags": pa.array([[]] * count, pa.list_(pa.string())),
        "cls_digest": _digests(rng, count),
        "patch_digest": _digests(rng, count),
        "committed": pa.array(1_790_000_000_000_000 + numbers * 1000, pa.timestamp("us", tz="UTC")),
    }
    arrays = [
        columns.get(field.name, pa.nulls(count, field.type)).cast(field.type) for field in SCHEMA
    ]
    return pa.table(arrays, schema=SCHEMA)


def _digests(rng: np.random.Generator, count: int) -> pa.Array:
    text = rng.bytes(16 * count).hex()
    return pa.array([text[place : place + 32] for place in range(0, len(text), 32)])


def make_store(path: Path, clips: int) -> list[PartEntry]:
    """Makes a store whose manifest tells of so many clips."""
    identity = FeatureIdentity(
        encoder="benchmark",
        weights_sha256="0" * 64,
        quick_gelu=False,
        token_space="trunk",  # noqa: S106 -- no password
        dim=4,
        patches=2,
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
    create_store(path, identity, block_slots=BLOCK_SLOTS, segment_slots=SEGMENT_SLOTS)
    root, rng, parts = read_root(path), np.random.default_rng(0), []
    for start in range(0, clips, PART_ROWS):
        writer = PartWriter()
        for table in rows(range(start, min(start + PART_ROWS, clips)), rng):
            writer.write(table)
        part = writer.finish()
        part.store(root.storage)
        parts.append(part.entry)
    publish_version(
        root,
        ManifestVersion(
            number=1,
            blocks=BlockRuns(((0, clips // BLOCK_SLOTS - 1),)),
            clips=clips,
            ok=clips,
            parts=tuple(parts),
        ),
    )
    return parts


def commit_clips(root: StoreRoot, first_block: int, count: int) -> None:
    """Commits clips that the manifest does not know, without features."""
    seal = FileSeal(bytes=1, digest="0" * 32)
    for start in range(0, count, BLOCK_SLOTS):
        segment, block = divmod(first_block + start // BLOCK_SLOTS, root.layout.segment_blocks)
        ids = [f"new-{start + place:06d}" for place in range(min(BLOCK_SLOTS, count - start))]
        claim = BlockClaim(
            segment=segment, block=block, clip_ids=tuple(ids), job="scale", token="0" * 16
        )
        clips = tuple(
            CommittedClip(
                outcome=ClipOutcome(
                    clip_id=name,
                    status=Status.OK,
                    frame_index=np.arange(FRAMES, dtype=np.int32) * 7,
                    frame_time=np.arange(FRAMES) * 7 / 25,
                    distinct_frames=FRAMES,
                ),
                slot=block * BLOCK_SLOTS + place,
                patch=seal,
            )
            for place, name in enumerate(ids)
        )
        commit = BlockCommit.of_claim(claim, job="scale", cls_file=seal, clips=clips)
        root.storage.create(f"{COMMITS}/{claim.name}", commit.encode(), sync_name=False)


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _memory() -> float:
    """Most memory that this process has had, MB; unlike getrusage's, not its parent's before."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure_open(path: Path, _clips: int) -> dict[str, float]:
    before, start = _memory(), time.perf_counter()
    store = open_store(path)
    count = len(store)
    return {
        "open_s": time.perf_counter() - start,
        "clips": count,
        "import_mb": before,
        "open_mb": _memory(),
    }


def measure_lookup(path: Path, clips: int) -> dict[str, float]:
    store, rng = open_store(path), np.random.default_rng(1)
    index = store._manifest.index
    figures: dict[str, float] = {}
    wall: dict[str, list[float]] = {"hits": [], "misses": []}
    cpu: dict[str, list[float]] = {"hits": [], "misses": []}
    for turn in range(21):
        known = [clip_id(int(number)) for number in rng.integers(0, clips, LOOKED_UP)]
        unknown = [f"{name}x" for name in known]
        for what, ids in (("hits", known), ("misses", unknown)):
            begin = time.process_time()
            taken = _timed(lambda ids=ids: index.find(ids))
            if turn:
                wall[what].append(taken)
                cpu[what].append(time.process_time() - begin)
            figures.setdefault("first_ms", taken * 1e3)
        if not index.find(known).ok.all() or index.find(unknown).ok.any():
            raise SystemExit("the index finds something else")
    one = [_timed(lambda name=name: index.find([name])) for name in known[:100]]
    figures["lookup_mb"] = _memory()
    told = [_timed(lambda name=name: store.outcome(name)) for name in known[:20]]
    for what, times in wall.items():
        figures[f"{what}_ms"] = statistics.median(times) * 1e3
        figures[f"{what}_cpu_ms"] = statistics.median(cpu[what]) * 1e3
    figures["one_ms"] = statistics.median(one) * 1e3
    figures["outcome_ms"] = statistics.median(told) * 1e3
    figures["outcome_mb"] = _memory()
    return figures


def measure_clip_ids(path: Path, _clips: int) -> dict[str, float]:
    store = open_store(path)
    return {"clip_ids_s": _timed(lambda: store.clip_ids), "clip_ids_mb": _memory()}


def measure_writer(path: Path, clips: int) -> dict[str, float]:
    start = time.perf_counter()
    with StoreWriter(path, read_root(path).identity) as writer:
        opened = time.perf_counter() - start
        asked = [clip_id(number) for number in range(0, clips, clips // LOOKED_UP)]
        pending = _timed(lambda: writer.pending([*asked, "one more"]))
    return {"writer_s": opened, "pending_ms": pending * 1e3, "writer_mb": _memory()}


def measure_fold(path: Path, clips: int) -> dict[str, float]:
    root = read_root(path)
    commit_clips(root, clips // BLOCK_SLOTS, LOOKED_UP)
    before = newest_version(root.storage)
    taken = _timed(lambda: fold_commits(root))
    if read_version(root).number != before + 1 or len(open_store(path)) != clips + LOOKED_UP:
        raise SystemExit("the fold made something else")
    return {"fold_s": taken, "fold_mb": _memory()}


def measure_merge(path: Path, _clips: int) -> dict[str, float]:
    root = read_root(path)
    version = read_version(root)
    old, new = (ManifestPart(root.storage, version.parts[place]) for place in (0, -1))
    table = new.table(SCHEMA.names)
    return {"merge_s": _timed(lambda: merge_parts([old], table)), "merge_mb": _memory()}


MEASURES = {
    "open": measure_open,
    "lookup": measure_lookup,
    "clip_ids": measure_clip_ids,
    "writer": measure_writer,
    "fold": measure_fold,
    "merge": measure_merge,
}


def in_fresh_process(measure: str, path: Path, clips: int) -> dict[str, float]:
    """Runs one measurement in a new process."""
    command = [sys.executable, "-m", "benchmarks.manifest_scale", "--measure", measure]
    command += ["--store", str(path), "--clips", str(clips)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def forget(folder: Path) -> None:
    """Drops a folder's files, all forced to disk before, from the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def measure_listing(folder: Path) -> dict[str, float]:
    """Lists as many names as eleven million clips have commits, in blocks of 16."""
    create_store(folder, read_root(folder.parent / "store").identity)
    storage = read_root(folder).storage
    (folder / COMMITS).mkdir(exist_ok=True)
    for number in range(LISTED):
        segment, block = divmod(number, SEGMENT_SLOTS // BLOCK_SLOTS)
        (folder / COMMITS / f"{segment:06d}.{block:06d}.json").touch()
    last = f"{(LISTED - 1) // 256:06d}.{(LISTED - 1) % 256 - 1:06d}.json"
    return {
        "names_s": _timed(lambda: storage.names(COMMITS)),
        "names_after_s": _timed(lambda: storage.names(COMMITS, after=last)),
    }


def measure_size(folder: Path, clips: int) -> dict[str, float]:
    """Makes a manifest of so many clips and measures everything about it."""
    path, figures = folder / "store", {}
    begin = time.perf_counter()
    parts = make_store(path, clips)
    figures["made_s"] = time.perf_counter() - begin
    figures["parts"] = len(parts)
    figures["row_bytes"] = sum(part.bytes for part in parts) / clips
    index = sum(file.stat().st_size for file in (path / "manifest").glob("*.index"))
    figures["index_bytes"] = index / clips
    for name in MEASURES:
        if name in {"open", "lookup"}:
            forget(path)
            cold = in_fresh_process(name, path, clips)
            figures |= {f"cold_{key}": value for key, value in cold.items()}
        figures |= in_fresh_process(name, path, clips)
    if clips == PART_ROWS:
        figures |= measure_listing(folder / "listing")
    return figures


LINES = [
    ("open, in page cache, s", "open_s", "{:.3f}", "< 1"),
    ("open, from disk, s", "cold_open_s", "{:.3f}", "< 1"),
    ("memory once imported, MB", "import_mb", "{:.0f}", ""),
    ("memory once open, MB", "open_mb", "{:.0f}", "< 200"),
    ("look up 1,000 ids that are there, ms", "hits_ms", "{:.1f}", "< 10"),
    ("of that on the processor, ms", "hits_cpu_ms", "{:.1f}", "< 10"),
    ("look up 1,000 ids that are not, ms", "misses_ms", "{:.1f}", "< 10"),
    ("of that on the processor, ms", "misses_cpu_ms", "{:.1f}", "< 10"),
    ("the first 1,000, in page cache, ms", "first_ms", "{:.1f}", ""),
    ("the first 1,000, from disk, ms", "cold_first_ms", "{:.1f}", ""),
    ("look up one id, ms", "one_ms", "{:.2f}", ""),
    ("memory after these, MB", "lookup_mb", "{:.0f}", "< 200"),
    ("a clip's whole outcome, ms", "outcome_ms", "{:.1f}", ""),
    ("memory after 20 outcomes, MB", "outcome_mb", "{:.0f}", ""),
    ("first `clip_ids`, s", "clip_ids_s", "{:.1f}", ""),
    ("memory with `clip_ids`, MB", "clip_ids_mb", "{:.0f}", ""),
    ("start a `StoreWriter`, s", "writer_s", "{:.3f}", ""),
    ("`pending` of 1,001 ids, ms", "pending_ms", "{:.1f}", ""),
    ("memory of the writer, MB", "writer_mb", "{:.0f}", ""),
    ("fold 1,000 new clips (63 commits), s", "fold_s", "{:.2f}", ""),
    ("memory of the fold, MB", "fold_mb", "{:.0f}", ""),
    ("the largest merge: 1,000 rows into 1,000,000, s", "merge_s", "{:.0f}", ""),
    ("memory of that merge, MB", "merge_mb", "{:.0f}", ""),
    ("Parquet, bytes a clip", "row_bytes", "{:.0f}", ""),
    ("index, bytes a clip", "index_bytes", "{:.1f}", ""),
    ("parts", "parts", "{:.0f}", ""),
    ("list 700,000 commits, s", "names_s", "{:.2f}", ""),
    ("list those behind the last folded, s", "names_after_s", "{:.2f}", ""),
]


def table(results: dict[int, dict[str, float]]) -> list[str]:
    """Returns the figures as the lines of a Markdown table, a column a size."""
    heads = [f"{clips:,} clips" for clips in results]
    lines = [f"| what | {' | '.join(heads)} | aim |", f"|---|{'--:|' * len(heads)}--:|"]
    for label, key, form, aim in LINES:
        values = [form.format(found[key]) if key in found else "" for found in results.values()]
        lines.append(f"| {label} | {' | '.join(values)} | {aim} |")
    return lines


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clips", type=int, nargs="+", default=[PART_ROWS, 10 * PART_ROWS])
    parser.add_argument("--folder", type=Path, help="where the stores are made; default: temporary")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        json.dump(MEASURES[options.measure](options.store, options.clips[0]), sys.stdout)
        return 0
    results = {}
    for clips in options.clips:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            results[clips] = measure_size(Path(folder), clips)
    publish(
        "manifest-scale",
        "A manifest of a million clips, and of ten",
        options,
        packages=["numpy", "pyarrow"],
        notes=[
            f"rows: made up, {FRAMES} frame numbers and times each; no features; parts of {PART_ROWS:,}",
            "each figure from a process of its own; memory is the most it had; lookups: median of 20",
            '"from disk": the store\'s files were dropped from the page cache before',
        ],
        body=table(results),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
