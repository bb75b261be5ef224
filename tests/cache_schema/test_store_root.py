"""Creating and opening: five different answers, and one store out of many creators."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cache_schema import (
    CorruptStore,
    FeatureIdentity,
    IdentityMismatch,
    InputError,
    StoreAbsent,
    StoreForeign,
    StoreNewer,
    StoreOlder,
    StoreWriter,
    create_store,
    open_store,
)
from cache_schema.store_root import create_segment, read_root


def _edit(store: Path, **changes: object) -> None:
    file = store / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["videodistill"].update(changes)
    file.write_text(json.dumps(document))


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_creating_twice_is_creating_once(empty_store: Path, identity: FeatureIdentity) -> None:
    before = _tree(empty_store)
    create_store(empty_store, identity, block_slots=2, segment_slots=4)
    assert _tree(empty_store) == before
    assert open_store(empty_store).identity == identity
    assert open_store(empty_store).version == 0
    assert open_store(empty_store).clip_ids == []
    assert [folder.name for folder in empty_store.parent.iterdir()] == ["store"]


def test_an_empty_folder_may_become_a_store(tmp_path: Path, identity: FeatureIdentity) -> None:
    (tmp_path / "store").mkdir()
    create_store(str(tmp_path / "store"), identity)
    assert read_root(tmp_path / "store").layout.block_slots == 16


@pytest.mark.parametrize(("block", "segment"), [(0, 8), (4, 0), (4, 10), (8, 4)])
def test_sizes_that_do_not_fit_are_refused(
    tmp_path: Path, identity: FeatureIdentity, block: int, segment: int
) -> None:
    with pytest.raises(InputError, match="multiple of block_slots"):
        create_store(tmp_path / "store", identity, block_slots=block, segment_slots=segment)
    assert not (tmp_path / "store").exists()


def test_absent_is_said_of_nothing_and_of_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "empty"):
        with pytest.raises(StoreAbsent, match="no feature store"):
            open_store(path)


def _foreign_file(path: Path) -> None:
    path.write_text("features")


def _foreign_folder(path: Path) -> None:
    path.mkdir()
    (path / "notes.txt").write_text("mine")


def _foreign_zarr(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')


def _foreign_array(path: Path) -> None:
    path.mkdir()
    document = {"zarr_format": 3, "node_type": "array", "attributes": {"videodistill": {}}}
    (path / "zarr.json").write_text(json.dumps(document))


def _foreign_json(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text("[]")


@pytest.mark.parametrize(
    "make", [_foreign_file, _foreign_folder, _foreign_zarr, _foreign_array, _foreign_json]
)
def test_foreign_things_are_refused_and_untouched(
    tmp_path: Path, identity: FeatureIdentity, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "store"
    make(path)
    before = _tree(tmp_path)
    for call in (lambda: open_store(path), lambda: create_store(path, identity)):
        with pytest.raises(StoreForeign):
            call()
    assert _tree(tmp_path) == before


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": "0"}, StoreOlder),
        ({"format": "2"}, StoreNewer),
        ({"format": "1.1"}, StoreNewer),
        ({"format": "next"}, StoreNewer),
        ({"format": "2", "identity": {}, "surprise": 1}, StoreNewer),
        ({"reader_features": ["int8"]}, StoreNewer),
        ({"format": 1}, CorruptStore),
        ({"surprise": 1}, CorruptStore),
        ({"digest": "0" * 64}, CorruptStore),
        ({"identity": {"encoder": "x"}}, CorruptStore),
        ({"block_slots": 8}, CorruptStore),
        ({"segment_slots": 16}, CorruptStore),
        ({"segment_slots": 9}, CorruptStore),
    ],
    ids=str,
)
def test_older_newer_and_damaged_are_refused_and_untouched(
    empty_store: Path, identity: FeatureIdentity, change: dict[str, object], error: type[Exception]
) -> None:
    _edit(empty_store, **change)
    before = _tree(empty_store)
    for call in (
        lambda: open_store(empty_store),
        lambda: create_store(empty_store, identity),
        lambda: StoreWriter(empty_store, identity),
    ):
        with pytest.raises(error):
            call()
    assert _tree(empty_store) == before


def test_unknown_writer_features_stop_writers_only(
    empty_store: Path, identity: FeatureIdentity
) -> None:
    _edit(empty_store, writer_features=["journal"])
    assert open_store(empty_store).clip_ids == []
    with pytest.raises(StoreNewer, match="journal"):
        StoreWriter(empty_store, identity)


def test_metadata_that_are_no_json_are_damage_not_absence(empty_store: Path) -> None:
    (empty_store / "zarr.json").write_text("")
    with pytest.raises(CorruptStore, match="not JSON"):
        open_store(empty_store)


def test_another_identity_is_refused_with_the_difference(
    empty_store: Path, identity: FeatureIdentity
) -> None:
    other = replace(identity, precision="bf16")
    for call in (lambda: create_store(empty_store, other), lambda: StoreWriter(empty_store, other)):
        with pytest.raises(IdentityMismatch, match="precision: 'bf16' here, 'fp32' there"):
            call()


def test_segments_are_created_once(empty_store: Path) -> None:
    root = read_root(empty_store)
    create_segment(root, 1)
    before = _tree(empty_store)
    create_segment(root, 1)
    assert _tree(empty_store) == before
    assert sorted(folder.name for folder in empty_store.glob("seg-*")) == [
        "seg-000000",
        "seg-000001",
    ]


def test_stores_are_readable_by_the_group_as_the_umask_says(empty_store: Path) -> None:
    plain = empty_store.parent / "plain"
    plain.mkdir()
    assert {folder.stat().st_mode for folder in empty_store.iterdir() if folder.is_dir()} == {
        plain.stat().st_mode
    }


_CREATE = """
import sys, conftest, cache_schema
identity = conftest.make_identity(precision=sys.argv[2])
try:
    cache_schema.create_store(sys.argv[1], identity, block_slots=4, segment_slots=8)
except cache_schema.IdentityMismatch:
    print("mismatch")
else:
    print("made")
"""


def test_of_racing_creators_one_identity_wins(
    tmp_path: Path, run_python: Callable[..., subprocess.Popen[str]]
) -> None:
    kinds = ["fp32", "bf16", "fp32", "bf16"]
    racers = [run_python(_CREATE, tmp_path / "store", kind) for kind in kinds]
    answers = [racer.communicate(timeout=60)[0].strip() for racer in racers]
    won = open_store(tmp_path / "store").identity.precision
    assert answers == ["made" if kind == won else "mismatch" for kind in kinds]
    assert [folder.name for folder in tmp_path.iterdir()] == ["store"]
