"""Repairing shards and clips: restored, moved, replaced, dropped, or listed; never guessed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import (
    ClipMissing,
    CorruptStore,
    IdentityMismatch,
    StoreForeign,
    StoreNewer,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.store_root import read_root
from cache_schema.upkeep import repair as repairing
from cache_schema.upkeep.gc import collect
from cache_schema.upkeep.pins import pin_version
from cache_schema.upkeep.repair import plan_repair, repair_store

Write = Callable[..., None]
PATCH, CLS = "seg-000000/patch/c.1.0.0.0", "seg-000000/cls/c.0.0.0"


def delete(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path, place: int = 9) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def flip_index(file: Path) -> None:
    flip(file, -6)


def wrongs(path: Path) -> list[str]:
    return [str(found) for found in verify_store(path) if found.severity != "notice"]


def files(path: Path) -> dict[str, bytes]:
    """All files but those under temporary names."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and not file.name.startswith(".tmp-")
    }


@pytest.fixture
def copy(filled, tmp_path: Path) -> Path:
    shutil.copytree(filled.path, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def extracted(filled, tmp_path: Path, write_clips_of: Write) -> Callable[..., Path]:
    """Makes another store of the same identity that some clips were extracted into anew."""

    def make(clip_ids: list[str], attempt: int = 0) -> Path:
        create_store(tmp_path / "anew", filled.identity, block_slots=2, segment_slots=4)
        with StoreWriter(tmp_path / "anew", filled.identity) as writer:
            write_clips_of(writer, clip_ids, attempt=attempt)
            writer.compact()
        return tmp_path / "anew"

    return make


@pytest.mark.parametrize("spoil", [delete, truncate, empty, flip, flip_index])
@pytest.mark.parametrize("name", [PATCH, CLS])
def test_reading_a_damaged_shard_names_the_clip_and_never_gives_zeros(
    filled, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(filled.path / name)
    store = open_store(filled.path)
    refused = []
    for clip_id in filled.ok:
        for read, expected in ((store.read_cls, filled.cls), (store.read_patches, filled.patch)):
            try:
                np.testing.assert_array_equal(read([clip_id]), expected([clip_id]))
            except CorruptStore as error:
                refused.append((clip_id, error.clip_id, Path(str(error.file))))
    assert refused
    assert all(asked == told and file == filled.path / name for asked, told, file in refused)
    assert wrongs(filled.path) != []


@pytest.mark.parametrize("spoil", [delete, truncate, empty, flip, flip_index])
@pytest.mark.parametrize("name", [PATCH, CLS])
def test_a_copy_gives_every_byte_back(
    filled, copy: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(filled.path / name)
    report = repair_store(filled.path, source=copy)
    assert report.left == ()
    assert [step.action for step in report.done] == ["restore"]
    assert files(filled.path) == files(copy)
    again = repair_store(filled.path, source=copy)
    assert (again.done, again.left) == ((), ())


@pytest.mark.parametrize("name", [PATCH, CLS])
def test_a_new_extraction_gives_every_byte_back_where_it_gives_the_same_features(
    filled, copy: Path, extracted: Callable[..., Path], name: str
) -> None:
    delete(filled.path / name)
    report = repair_store(filled.path, source=extracted(["c3", "c1", "c0"]))
    assert report.left == ()
    assert [step.action for step in report.done] == ["restore"]
    assert files(filled.path) == files(copy)


@pytest.mark.parametrize("name", [PATCH, CLS])
@pytest.mark.parametrize(
    "spoil", [flip_index, lambda file: file.write_bytes(file.read_bytes() + b"x")]
)
def test_features_that_are_whole_need_no_source(
    filled, copy: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    spoil(filled.path / name)
    assert repair_store(filled.path).left == ()
    assert files(filled.path) == files(copy)


def test_a_checksum_that_is_damaged_needs_no_source(filled, copy: Path) -> None:
    flip(filled.path / PATCH, 3 * 8 * 2 + 1)
    assert repair_store(filled.path).left == ()
    assert files(filled.path) == files(copy)


def test_other_features_of_the_source_replace_the_lost_ones(
    filled, extracted: Callable[..., Path], features: Callable
) -> None:
    delete(filled.path / PATCH)
    report = repair_store(filled.path, source=extracted(["c1", "c0"], attempt=5))
    assert [(step.action, step.clip_ids) for step in report.done] == [("replace", ("c1",))]
    store = open_store(filled.path)
    cls, patch = features("c1", filled.identity, 5)
    np.testing.assert_array_equal(store.read_cls(["c1"])[0], cls)
    np.testing.assert_array_equal(store.read_patches(["c1"])[0], patch)
    others = [clip_id for clip_id in filled.ok if clip_id != "c1"]
    np.testing.assert_array_equal(store.read_patches(others), filled.patch(others))
    assert wrongs(filled.path) == []
    assert repair_store(filled.path).done == ()


def test_sound_clips_move_when_their_block_cannot_be_restored(
    filled, extracted: Callable[..., Path], features: Callable
) -> None:
    # The second clip of the block's cls shard: c0 and c3 are sound, c1 comes from elsewhere.
    flip(filled.path / CLS, 5 * 8 * 2 + 4 + 3)
    report = repair_store(filled.path, source=extracted(["c1"], attempt=5))
    assert sorted((step.action, step.clip_ids) for step in report.done) == [
        ("move", ("c0",)),
        ("move", ("c3",)),
        ("replace", ("c1",)),
    ]
    store = open_store(filled.path)
    kept = [clip_id for clip_id in filled.ok if clip_id != "c1"]
    np.testing.assert_array_equal(store.read_cls(kept), filled.cls(kept))
    np.testing.assert_array_equal(store.read_patches(kept), filled.patch(kept))
    np.testing.assert_array_equal(store.read_cls(["c1"])[0], features("c1", filled.identity, 5)[0])
    assert wrongs(filled.path) == []


def test_without_a_source_what_is_lost_is_listed_and_nothing_is_changed(filled) -> None:
    flip(filled.path / CLS, 5 * 8 * 2 + 4 + 3)
    delete(filled.path / "seg-000000/patch/c.4.0.0.0")
    before = files(filled.path)
    plan = plan_repair(filled.path)
    assert plan.steps == ()
    assert plan.damaged_clips == ("c1", "c4")
    report = repair_store(filled.path)
    assert [(item.place, item.clip_ids) for item in report.left] == [
        (CLS, ("c1",)),
        ("seg-000000/patch/c.4.0.0.0", ("c4",)),
    ]
    assert "as the source" in str(report.left[0])
    assert files(filled.path) == before


def test_dropped_clips_are_failures_that_a_retry_ends(
    filled, write_claimed: Write, features: Callable
) -> None:
    delete(filled.path / PATCH)
    delete(filled.path / CLS)
    report = repair_store(filled.path, drop=True)
    assert report.left == ()
    assert {step.action for step in report.done} == {"drop"}
    store = open_store(filled.path)
    assert store.outcome("c1").reason == "damaged"
    with pytest.raises(ClipMissing, match="damaged"):
        store.read_patches(["c1"])
    assert wrongs(filled.path) == []
    with StoreWriter(filled.path, filled.identity) as writer:
        assert writer.pending(["c0", "c1", "c3", "c4"], retry_failed=True) == ["c0", "c1", "c3"]
        write_claimed(writer, writer.claim(["c0", "c1", "c3"]))
        writer.compact()
    np.testing.assert_array_equal(
        open_store(filled.path).read_patches(filled.ok), filled.patch(filled.ok)
    )


def test_a_pinned_version_is_told_of_when_it_stays_damaged(filled) -> None:
    pin_version(read_root(filled.path), "paper")
    delete(filled.path / PATCH)
    report = repair_store(filled.path, drop=True)
    assert [step.action for step in report.done] == ["drop"]
    (left,) = report.left
    assert "a pinned version shows it" in left.why
    assert wrongs(filled.path) != []


def test_damaged_files_are_kept_aside_until_they_are_collected(filled, copy: Path) -> None:
    truncate(filled.path / PATCH)
    damaged = (filled.path / PATCH).read_bytes()
    repair_store(filled.path, source=copy)
    (aside,) = filled.path.rglob(".tmp-damaged-*")
    assert aside.read_bytes() == damaged
    assert aside.parent == (filled.path / PATCH).parent
    assert [str(found.code) for found in verify_store(filled.path)] == ["temporary"]
    collect(filled.path, older_than_s=-1e9)
    assert aside.exists(), "what was just written is spared"


def test_a_repair_that_is_killed_at_any_step_goes_on(
    filled, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    names = [PATCH, CLS, "zarr.json", "seg-000001/zarr.json", "seg-000000/cls/zarr.json"]
    names += ["commits/000000.000001.json", "claims/000000.000000.json", "manifest/CURRENT"]
    for name in names:
        truncate(filled.path / name)
    real, steps = repairing._take, iter(range(1000))

    def killed(storage: object, step: object) -> None:
        if next(steps) % 2:
            raise Killed
        real(storage, step)

    monkeypatch.setattr(repairing, "_take", killed)
    for _ in range(50):
        try:
            report = repair_store(filled.path, source=copy)
        except Killed:
            continue
        break
    assert report.left == ()
    assert files(filled.path) == files(copy)
    assert len(list(filled.path.rglob(".tmp-damaged-*"))) == len(names)


def test_a_commit_that_is_not_folded_is_given_up_only_when_asked(
    filled, write_claimed: Write
) -> None:
    with StoreWriter(filled.path, filled.identity) as writer:
        write_claimed(writer, writer.claim(["x", "y"]))
    name = "commits/000001.000001.json"
    truncate(filled.path / name)
    report = repair_store(filled.path)
    assert [(item.place, item.clip_ids) for item in report.left] == [(name, ("x", "y"))]
    assert repair_store(filled.path, drop=True).left == ()
    assert wrongs(filled.path) == []
    with StoreWriter(filled.path, filled.identity) as writer:
        assert writer.pending(["x", "y", "c0"]) == ["x", "y"]


def test_a_store_that_was_upgraded_is_not_taken_for_a_damaged_one(filled) -> None:
    file = filled.path / "zarr.json"
    text = file.read_text()
    file.write_text(text.replace('"format": "1"', '"format": "2", "later": "x"'))
    with pytest.raises(StoreNewer):
        repair_store(filled.path)
    flipped = text.replace('"format": "1"', '"format": "3"')
    file.write_text(flipped)
    with pytest.raises(StoreNewer):
        open_store(filled.path)
    assert [step.place for step in repair_store(filled.path).done] == ["zarr.json"]
    assert file.read_text() == text


def test_a_missing_root_comes_back_from_the_manifest(filled, copy: Path) -> None:
    delete(filled.path / "zarr.json")
    with pytest.raises(StoreForeign):
        open_store(filled.path)
    assert repair_store(filled.path).left == ()
    assert files(filled.path) == files(copy)


def test_other_programs_attributes_of_the_root_stay(filled) -> None:
    file = filled.path / "zarr.json"
    spoiled = file.read_text().replace('"attributes": {', '"attributes": {"theirs": 1,', 1)
    file.write_text(spoiled.replace('"created": "2', '"created": "1'))
    assert wrongs(filled.path) != []
    repair_store(filled.path)
    assert wrongs(filled.path) == []
    assert '"theirs": 1' in file.read_text()


def test_a_source_of_other_features_is_refused(
    filled, tmp_path: Path, make_identity: Callable
) -> None:
    other = make_identity(encoder="ViT-B-16")
    create_store(tmp_path / "other", other, block_slots=4, segment_slots=8)
    with pytest.raises(IdentityMismatch):
        plan_repair(filled.path, source=tmp_path / "other")


@pytest.fixture
def many_versions(filled, write_clips_of: Write) -> Path:
    with StoreWriter(filled.path, filled.identity) as writer:
        for number in range(4):
            write_clips_of(writer, [f"d{number}"])
            writer.compact()
    return filled.path


@pytest.mark.parametrize(
    "pattern",
    ["v000005.json", "v000002.json", "part-*.parquet", "part-*.index", "CURRENT", "v*.json", "*"],
)
def test_the_manifest_is_made_anew_where_it_cannot_be_restored(
    many_versions: Path, filled, pattern: str
) -> None:
    rows = open_store(many_versions).manifest().to_pylist()
    for file in (many_versions / "manifest").glob(pattern):
        truncate(file)
    report = repair_store(many_versions)
    assert report.left == ()
    assert open_store(many_versions).manifest().to_pylist() == rows
    assert wrongs(many_versions) == []
    assert repair_store(many_versions).done == ()
    with StoreWriter(many_versions, filled.identity) as writer:
        assert writer.compact() == report.version


def test_a_manifest_from_another_store_does_not_change_the_root(
    filled, tmp_path: Path, make_identity: Callable, write_clips_of: Write
) -> None:
    other = make_identity(encoder="ViT-B-16")
    create_store(tmp_path / "other", other, block_slots=4, segment_slots=8)
    with StoreWriter(tmp_path / "other", other) as writer:
        write_clips_of(writer, ["a"])
        writer.compact()
    rows = open_store(filled.path).manifest().to_pylist()
    shutil.rmtree(filled.path / "manifest")
    shutil.copytree(tmp_path / "other" / "manifest", filled.path / "manifest")
    before = (filled.path / "zarr.json").read_bytes()
    assert repair_store(filled.path).left == ()
    assert (filled.path / "zarr.json").read_bytes() == before
    assert open_store(filled.path).manifest().to_pylist() == rows
    assert wrongs(filled.path) == []


@pytest.mark.parametrize("source", ["copy", "anew", "none"])
@pytest.mark.parametrize("name", [PATCH, CLS, "seg-000000/patch_scale/c.0.0.0"])
def test_int8_features_are_repaired_alike(
    tmp_path: Path, make_identity: Callable, write_clips_of: Write, name: str, source: str
) -> None:
    identity = make_identity(quantised="int8-token")
    for folder in ("store", "anew"):
        create_store(tmp_path / folder, identity, block_slots=4, segment_slots=8)
        with StoreWriter(tmp_path / folder, identity) as writer:
            write_clips_of(writer, ["c0", "c1", "c2", "c3"][:: 1 if folder == "store" else -1])
            writer.compact()
    path = tmp_path / "store"
    shutil.copytree(path, tmp_path / "copy")
    expected = open_store(path).read_patches(["c0", "c1", "c2", "c3"])
    flip(path / name, 20)
    if source == "none":
        repair_store(path, drop=True)
        store = open_store(path)
        assert len(store) == 3
        kept = [int(clip_id[1]) for clip_id in store.clip_ids]
        np.testing.assert_array_equal(store.read_patches(store.clip_ids), expected[kept])
    else:
        report = repair_store(path, source=tmp_path / source)
        assert [step.action for step in report.done] == ["restore"]
        assert files(path) == files(tmp_path / "copy")
    assert wrongs(path) == []
