"""The manifest: versions that never change, and one rule for clips committed more than once."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import (
    ClipMissing,
    ClipOutcome,
    CorruptStore,
    FeatureIdentity,
    InputError,
    StoreWriter,
    create_store,
    open_store,
    reader,
)
from cache_schema.blocks.block_claim import BlockClaim, ClaimRecord
from cache_schema.blocks.process_owner import ProcessOwner
from cache_schema.manifest.manifest_fold import fold_commits
from cache_schema.manifest.manifest_row import SCHEMA
from cache_schema.manifest.manifest_version import newest_version, record_key
from cache_schema.storage.local_storage import LocalStorage
from cache_schema.storage.storage import open_storage
from cache_schema.store_root import read_root

Write = Callable[..., None]


def _write_anyway(
    store: Path, identity: FeatureIdentity, block: int, outcomes: list[ClipOutcome], value: float
) -> None:
    """Commits clips to a given block without asking who else has done them."""
    ids = tuple(outcome.clip_id for outcome in outcomes)
    claim = BlockClaim(segment=0, block=block, clip_ids=ids, job="j", token=f"t{block}")
    record = ClaimRecord(claim=claim, owner=ProcessOwner.current())
    file = store / "claims" / claim.name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(record.encode())
    shape = (len(ids), identity.frames, identity.patches, identity.dim)
    patch = np.full(shape, value, dtype=np.float16)
    with StoreWriter(store, identity) as writer:
        writer.write_block(claim, outcomes, patch[:, :, 0], patch)


@pytest.fixture
def wide_store(tmp_path: Path, identity: FeatureIdentity) -> Path:
    create_store(tmp_path / "wide", identity, block_slots=2, segment_slots=32)
    return tmp_path / "wide"


def test_a_reader_is_pinned_to_its_version(
    empty_store: Path, identity: FeatureIdentity, write_clips_of: Write
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ["a"])
        assert open_store(empty_store).version == 0
        assert writer.compact() == 1
        first = open_store(empty_store)
        write_clips_of(writer, ["b", "c"])
        assert writer.compact() == 2
        assert writer.compact() == 2
    assert first.clip_ids == ["a"]
    assert open_store(empty_store).clip_ids == ["a", "b", "c"]
    assert open_store(empty_store, version=1).clip_ids == ["a"]
    assert open_store(empty_store, version=0).clip_ids == []
    for version in (3, -1):
        with pytest.raises(InputError, match="it has 0 to 2"):
            open_store(empty_store, version=version)


def test_rows_tell_the_whole_outcome(filled) -> None:
    table = open_store(filled.path).manifest()
    assert table.schema.equals(SCHEMA)
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    assert list(rows) == sorted(rows)
    ok, failed = rows["c9"], rows["c2"]
    assert (ok["segment"], ok["block"], ok["slot"]) == (1, 0, 1)
    assert ok["frame_index"] == [0, 3, 6, 9, 12]
    assert len(ok["cls_digest"]) == len(ok["patch_digest"]) == 32
    assert ok["committed"].tzinfo is not None
    assert (failed["status"], failed["slot"], failed["patch_digest"]) == ("failed", -1, "")
    assert failed["frame_time"] is None
    assert str(filled.path.parent) not in str(rows)


def test_a_retry_replaces_a_failure_and_nothing_replaces_an_ok(
    empty_store: Path, identity: FeatureIdentity, failed_outcome: Callable, ok_outcome: Callable
) -> None:
    steps = [
        ([failed_outcome("a", "io")], "io"),
        ([failed_outcome("a", "timeout")], "timeout"),
        ([ok_outcome("a")], ""),
        ([failed_outcome("a", "io")], ""),
    ]
    root = read_root(empty_store)
    for block, (outcomes, reason) in enumerate(steps[:2]):
        _write_anyway(empty_store, identity, block, outcomes, 1.0)
        fold_commits(root)
        assert open_store(empty_store).outcome("a").reason == reason
    create_store(empty_store.parent / "big", identity, block_slots=2, segment_slots=8)
    big = empty_store.parent / "big"
    for block, (outcomes, reason) in enumerate(steps):
        _write_anyway(big, identity, block, outcomes, 1.0)
        fold_commits(read_root(big))
        assert open_store(big).outcome("a").reason == reason


def test_a_clip_committed_twice_is_taken_from_the_lower_block(
    wide_store: Path, identity: FeatureIdentity, ok_outcome: Callable
) -> None:
    _write_anyway(wide_store, identity, 5, [ok_outcome("a")], 5.0)
    _write_anyway(wide_store, identity, 3, [ok_outcome("a")], 3.0)
    fold_commits(read_root(wide_store))
    assert open_store(wide_store).read_cls(["a"]).max() == 3


def test_a_clip_that_readers_have_seen_stays_where_it_is(
    wide_store: Path, identity: FeatureIdentity, ok_outcome: Callable
) -> None:
    _write_anyway(wide_store, identity, 5, [ok_outcome("a")], 5.0)
    fold_commits(read_root(wide_store))
    _write_anyway(wide_store, identity, 3, [ok_outcome("a")], 3.0)
    assert fold_commits(read_root(wide_store)) == 2
    assert open_store(wide_store).read_cls(["a"]).max() == 5


def test_the_newest_version_counts_even_where_current_lags(
    empty_store: Path, identity: FeatureIdentity, write_clips_of: Write
) -> None:
    current = empty_store / "manifest" / "CURRENT"
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ["a"])
        writer.compact()
        lagging = current.read_bytes()
        write_clips_of(writer, ["b"])
        writer.compact()
        # A compactor died between its two steps, or was overtaken and moved CURRENT back.
        for content in (lagging, None):
            current.unlink()
            if content is not None:
                current.write_bytes(content)
            assert newest_version(open_storage(empty_store)) == 2
            assert open_store(empty_store).clip_ids == ["a", "b"]
            assert writer.compact() == 2
            assert current.exists()


def test_a_version_that_current_names_must_be_there(filled) -> None:
    (filled.path / record_key(1)).unlink()
    with pytest.raises(CorruptStore, match="names version 1, whose file is missing"):
        open_store(filled.path)


def test_a_manifest_of_another_store_is_refused(
    filled, tmp_path: Path, make_identity: Callable, write_clips_of: Write
) -> None:
    other = make_identity(precision="bf16")
    create_store(tmp_path / "other", other)
    with StoreWriter(tmp_path / "other", other) as writer:
        write_clips_of(writer, ["a"])
        writer.compact()
    for name in ("v000001.json", "CURRENT"):
        (filled.path / "manifest" / name).write_bytes(
            (tmp_path / "other/manifest" / name).read_bytes()
        )
    with pytest.raises(CorruptStore, match="moved here from another store"):
        open_store(filled.path)


_COMPACT = """
import sys
from cache_schema.manifest.manifest_fold import fold_commits
from cache_schema.store_root import read_root
print(fold_commits(read_root(sys.argv[1])))
"""


def test_racing_compactors_agree(
    wide_store: Path,
    identity: FeatureIdentity,
    write_clips_of: Write,
    run_python: Callable[..., subprocess.Popen[str]],
) -> None:
    ids = [f"c{number:02d}" for number in range(16)]
    with StoreWriter(wide_store, identity) as writer:
        write_clips_of(writer, ids)
    racers = [run_python(_COMPACT, wide_store) for _ in range(4)]
    versions = {int(racer.communicate(timeout=60)[0]) for racer in racers}
    assert versions == {1}
    assert open_store(wide_store).clip_ids == ids
    # Who came second has taken its part away again.
    names = sorted(file.name for file in (wide_store / "manifest").iterdir())
    assert [name[:5] for name in names] == ["CURRE", "part-", "part-", "v0000"]


def test_columns_and_rows_are_read_as_asked_for(filled) -> None:
    store = open_store(filled.path)
    whole = store.manifest()
    assert store.manifest(["slot", "clip_id"]).equals(whole.select(["slot", "clip_id"]))
    asked = ["c9", "c2", "c0", "c9"]
    rows = store.rows(asked, ["reason", "clip_id"])
    assert rows.column_names == ["reason", "clip_id"]
    assert rows.column("clip_id").to_pylist() == asked
    assert rows.column("reason").to_pylist() == ["", "truncated", "", ""]
    assert store.rows([]).num_rows == 0
    with pytest.raises(InputError, match="no column 'times'; it has clip_id, status"):
        store.manifest(["times"])
    with pytest.raises(ClipMissing, match="'zz'"):
        store.rows(["c1", "zz"])


def test_a_store_larger_than_what_is_remembered_is_read(
    filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_PLACES_KEPT", 2)
    store = open_store(filled.path)
    for clip_ids in (filled.ok, filled.ok[:1], filled.ok[3:6], filled.ok[::-1]):
        np.testing.assert_array_equal(store.read_cls(clip_ids), filled.cls(clip_ids))
        np.testing.assert_array_equal(store.read_patches(clip_ids), filled.patch(clip_ids))
        assert len(store._places) <= 2


def test_opening_reads_no_row(filled, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a part was read")

    monkeypatch.setattr(LocalStorage, "read_ranges", refuse)
    store = open_store(filled.path)
    assert (len(store), store.version) == (9, 1)
    assert store._manifest.version.clips == 10
