"""Damage of every kind to every file: an error that names the file, or the same numbers; never else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import CorruptStore, StoreWriter, VideoDistillError, open_store, verify_store


def _everything(path: Path) -> tuple[object, ...]:
    """Reads all that a store has to say."""
    store = open_store(path)
    outcomes = [store.outcome(clip_id).to_json() for clip_id in [*store.clip_ids, "c2"]]
    frames = np.array([[3, 1]] * len(store))
    return (
        store.clip_ids,
        outcomes,
        store.manifest().to_pylist(),
        store.read_cls(store.clip_ids).tobytes(),
        store.read_patches(store.clip_ids).tobytes(),
        store.read_patches(store.clip_ids, frames).tobytes(),
    )


def _same_or_refused(path: Path, expected: tuple[object, ...]) -> str:
    try:
        found = _everything(path)
    except VideoDistillError:
        return "refused"
    return "same" if found == expected else "SILENT"


READ_FILES = [
    "zarr.json",
    "seg-000000/cls/zarr.json",
    "manifest/CURRENT",
    "manifest/v000001.json",
    "manifest/part-*.index",
    "manifest/part-*.parquet",
    "seg-000000/cls/c.0.0.0",
    "seg-000000/cls/c.1.0.0",
    "seg-000000/patch/c.0.0.0.0",
    "seg-000001/cls/c.0.0.0",
    "seg-000001/patch/c.1.0.0.0",
]


@pytest.mark.parametrize("name", READ_FILES)
def test_a_flipped_bit_is_never_silent(filled, name: str) -> None:
    expected = _everything(filled.path)
    (file,) = filled.path.glob(name)
    good = file.read_bytes()
    step = max(1, len(good) // 80)
    answers = []
    for position in [*range(0, len(good), step), len(good) - 1]:
        spoiled = bytearray(good)
        spoiled[position] ^= 1 << (position % 8)
        file.write_bytes(spoiled)
        answers.append(_same_or_refused(filled.path, expected))
    assert "SILENT" not in answers
    # Only in metadata can a bit change without a meaning: white space, or the time of creation.
    if not name.endswith("zarr.json"):
        assert set(answers) == {"refused"}


@pytest.mark.parametrize("name", READ_FILES)
@pytest.mark.parametrize("part", [0, 0.5, -1], ids=["empty", "half", "last-byte"])
def test_a_truncated_file_is_never_silent(filled, name: str, part: float) -> None:
    expected = _everything(filled.path)
    (file,) = filled.path.glob(name)
    good = file.read_bytes()
    file.write_bytes(good[: int(len(good) * part)] if part >= 0 else good[:-1])
    assert _same_or_refused(filled.path, expected) == "refused"


@pytest.mark.parametrize("name", READ_FILES)
def test_a_deleted_file_is_never_silent(filled, name: str) -> None:
    expected = _everything(filled.path)
    (file,) = filled.path.glob(name)
    file.unlink()
    # Without CURRENT the versions are counted from the first.
    wanted = "same" if name == "manifest/CURRENT" else "refused"
    assert _same_or_refused(filled.path, expected) == wanted


def test_a_longer_file_is_read_or_refused(filled) -> None:
    expected = _everything(filled.path)
    file = filled.path / "seg-000000/patch/c.0.0.0.0"
    file.write_bytes(file.read_bytes() + b"\0")
    assert _same_or_refused(filled.path, expected) == "refused"


def test_two_clips_exchanged_are_found_by_verifying(filled) -> None:
    first, second = (filled.path / f"seg-000000/patch/c.{slot}.0.0.0" for slot in (0, 1))
    aside = first.with_name("aside")
    for source, target in ((first, aside), (second, first), (aside, second)):
        source.rename(target)
    findings = verify_store(filled.path)
    assert {(finding.code, finding.clip_id) for finding in findings} == {
        ("digest", "c0"),
        ("digest", "c1"),
    }


@pytest.mark.parametrize("frames", [None, [[0, 2, 4]]], ids=["whole", "some"])
def test_a_damaged_clip_names_itself_and_spares_the_others(filled, frames: list | None) -> None:
    file = filled.path / "seg-000000/patch/c.1.0.0.0"
    spoiled = bytearray(file.read_bytes())
    spoiled[2 * 52 + 3] ^= 4
    file.write_bytes(spoiled)
    store = open_store(filled.path)
    with pytest.raises(CorruptStore, match=r"c\.1\.0\.0\.0.*'c1'.*crc32c in chunk 2") as caught:
        store.read_patches(["c1"], frames)
    assert (caught.value.clip_id, caught.value.file) == ("c1", str(file))
    np.testing.assert_array_equal(store.read_patches(["c0", "c3"]), filled.patch(["c0", "c3"]))
    # Frames that are not damaged can be read, and unchecked reading is what it says.
    np.testing.assert_array_equal(
        store.read_patches(["c1"], [[1, 3]])[0], filled.patch(["c1"])[0, [1, 3]]
    )
    assert not np.array_equal(
        open_store(filled.path, check=False).read_patches(["c1"]), filled.patch(["c1"])
    )


def test_damage_after_a_first_read_is_found_too(filled) -> None:
    # The index of a shard is checked once; its chunks are checked at every read.
    store = open_store(filled.path)
    store.read_patches(["c0"])
    file = filled.path / "seg-000000/patch/c.0.0.0.0"
    good = file.read_bytes()
    file.write_bytes(good[:60])
    with pytest.raises(CorruptStore, match="ends before its data do"):
        store.read_patches(["c0"])
    file.unlink()
    with pytest.raises(CorruptStore, match="is missing"):
        store.read_patches(["c0"])


def test_a_damaged_commit_stops_folding_and_is_named(filled, write_clips_of: Callable) -> None:
    with StoreWriter(filled.path, filled.identity) as writer:
        write_clips_of(writer, ["d1"])
        file = filled.path / "commits" / "000001.000001.json"
        good = file.read_bytes()
        for position in range(0, len(good), 7):
            spoiled = bytearray(good)
            spoiled[position] ^= 1
            file.write_bytes(spoiled)
            with pytest.raises(CorruptStore) as caught:
                writer.compact()
            assert caught.value.file == str(file)
        file.write_bytes(good)
        assert writer.compact() == 2
