"""Two hundred random flipped bits over all kinds of files: never read in silence, found, and repaired."""

import random
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cache_schema import StoreWriter, VideoDistillError, open_store, verify_store
from cache_schema.store_root import read_root
from cache_schema.upkeep.pins import pin_version, read_pins
from cache_schema.upkeep.repair import repair_store

KINDS = {
    "root metadata": r"zarr\.json",
    "segment metadata": r"seg-\d+/zarr\.json",
    "array metadata": r"seg-\d+/\w+/zarr\.json",
    "cls shard": r"seg-\d+/cls/c\..*",
    "patch shard": r"seg-\d+/patch/c\..*",
    "claim": r"claims/.*\.json",
    "commit": r"commits/.*\.json",
    "manifest record": r"manifest/v\d+\.json",
    "manifest rows": r"manifest/part-.*\.parquet",
    "manifest index": r"manifest/part-.*\.index",
    "hint": r"manifest/CURRENT",
    "pin": r"pins/.*\.json",
}
INDEX_BYTES = {"cls shard": 4 * 16 + 4, "patch shard": 5 * 16 + 4}
IDS = [*(f"c{number}" for number in range(10)), "d0", "d1"]


@pytest.fixture
def store(filled, write_clips_of: Callable, write_claimed: Callable) -> Path:
    """A store with all that a store may have: failures, two versions, replaced clips, a pin."""
    with StoreWriter(filled.path, filled.identity) as writer:
        write_clips_of(writer, ["d0", "d1"])
        writer.abandon(writer.claim(["d2"]))
        write_claimed(writer, writer.claim(["c5"], replace=True), attempt=1)
        writer.compact()
    pin_version(read_root(filled.path), "paper", 1)
    return filled.path


def everything(path: Path) -> tuple[object, ...]:
    """All that a store has to say, to readers and writers."""
    answers: list[object] = [read_pins(read_root(path).storage)]
    for version in (None, 1):
        opened = open_store(path, version)
        ids = opened.clip_ids
        answers += [
            ids,
            [outcome.to_json() for outcome in opened.outcomes([*ids, "c2"])],
            opened.manifest().to_pylist(),
            opened.read_cls(ids).tobytes(),
            opened.read_patches(ids).tobytes(),
            opened.read_patches(ids, [[3, 1]] * len(ids)).tobytes(),
        ]
    with StoreWriter(path, opened.identity) as writer:
        answers.append(writer.pending(IDS, retry_failed=True))
    return tuple(answers)


def kind_of(path: Path, file: Path) -> str:
    name = file.relative_to(path).as_posix()
    kinds = [kind for kind, pattern in KINDS.items() if re.fullmatch(pattern, name)]
    assert len(kinds) == 1, f"{name} is of no known kind of file: add it, and flip its bits"
    return kinds[0]


def flips(path: Path, count: int, rng: random.Random) -> Iterator[tuple[str, Path, int]]:
    """Draws a kind of file, a file of it and a bit; half of the bits of a shard from its index."""
    files: dict[str, list[Path]] = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            files.setdefault(kind_of(path, file), []).append(file)
    assert set(files) == set(KINDS)
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        file = rng.choice(files[kind])
        size = file.stat().st_size
        first = size - INDEX_BYTES[kind] if kind in INDEX_BYTES and rng.random() < 0.5 else 0
        yield kind, file, 8 * rng.randrange(first, size) + rng.randrange(8)


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def is_found(path: Path) -> bool:
    try:
        return any(found.severity == "error" for found in verify_store(path))
    except VideoDistillError:
        # A flipped format number, or the like: the store is refused by name.
        return True


def seeded() -> tuple[int, random.Random]:
    seed = random.SystemRandom().randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    return seed, random.Random(seed)


def test_no_flipped_bit_is_read_in_silence_and_verifying_finds_each(store: Path) -> None:
    expected = everything(store)
    assert verify_store(store) == []
    seed, rng = seeded()
    answers: Counter[tuple[str, str]] = Counter()
    for kind, file, bit in flips(store, 200, rng):
        good = file.read_bytes()
        flip(file, bit)
        try:
            answer = "same" if everything(store) == expected else "SILENT"
        except VideoDistillError:
            answer = "refused"
        assert answer != "SILENT", f"seed {seed}: bit {bit} of {file}"
        assert is_found(store), f"seed {seed}: bit {bit} of {file} is not found"
        answers[kind, answer] += 1
        file.write_bytes(good)
    assert answers.total() == 200
    sys.stdout.write(f"{dict(answers)}\n")


@pytest.mark.parametrize(
    "count", [24, pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
@pytest.mark.parametrize("source", ["copy", "none"])
def test_repair_undoes_a_flipped_bit(store: Path, tmp_path: Path, source: str, count: int) -> None:
    expected, copy = everything(store), tmp_path / "copy"
    shutil.copytree(store, copy)
    files = {file: file.read_bytes() for file in copy.rglob("*") if file.is_file()}
    seed, rng = seeded()
    for kind, file, bit in flips(store, count, rng):
        place = f"seed {seed}: bit {bit} of {file}"
        flip(file, bit)
        report = repair_store(store, source=copy if source == "copy" else None)
        features = kind in INDEX_BYTES and bit // 8 < file.stat().st_size - INDEX_BYTES[kind]
        if source == "none" and (report.left or kind == "pin"):
            # Nobody but a copy has features that are lost, or knows of a pin.
            assert features or kind == "pin", f"{place}: {report.left}"
        elif source == "none" and kind in {"manifest record", "manifest rows"}:
            assert open_store(store).version >= 2, place
            assert [found for found in verify_store(store) if found.severity == "error"] == []
        else:
            assert report.left == (), place
            assert everything(store) == expected, place
            assert {found.code for found in verify_store(store)} <= {"temporary"}, place
        if source == "copy":
            assert {
                name: (store / name.relative_to(copy)).read_bytes() for name in files
            } == files, place
        shutil.rmtree(store)
        shutil.copytree(copy, store)
