"""Listing and describing stores: counts are those of the manifest, and nothing in a folder stops it."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import InputError, StoreWriter, create_store, open_store
from cache_schema.exchange.store_convert import convert_store
from cache_schema.sharing.store_card import card_of
from cache_schema.sharing.store_listing import describe_store, list_stores
from cache_schema.store_root import read_root
from cache_schema.upkeep.pins import pin_version

Write = Callable[..., None]


def test_a_store_is_described(filled):
    info = describe_store(filled.path)
    assert (info.clips, info.failed, info.failures) == (9, 1, {"truncated": 1})
    assert info.flags == {"decoded # of # declared frames": 9}
    assert info.backends == {"pyav 18.1.0": 9}
    assert (info.version, info.newest_version, info.short_clips) == (1, 1, 0)
    sizes = [file.stat().st_size for file in filled.path.rglob("*") if file.is_file()]
    assert (info.bytes, info.files) == (sum(sizes), len(sizes))
    document = json.loads(json.dumps(info.to_json()))
    assert (document["name"], document["digest"]) == (filled.identity.name, filled.identity.digest)
    assert document["identity"] == filled.identity.to_json()
    assert document["failed"] == 1


def test_pins_and_the_loss_of_a_variant_are_told(filled, tmp_path: Path):
    pin_version(read_root(filled.path), "paper", note="Table 1")
    info = describe_store(filled.path)
    assert (info.pins, info.loss) == ({"paper": 1}, None)
    convert_store(open_store(filled.path), tmp_path / "small", int8=True)
    small = describe_store(tmp_path / "small")
    assert small.loss.mean_cosine > 0.999
    assert small.to_json()["loss"]["mean_cosine"] == small.loss.mean_cosine
    assert "Loss of this variant (int8)" in card_of(tmp_path / "small")[
        "README.md"
    ].decode().replace("\\", "")


def test_an_earlier_version_is_described_as_it_was(
    empty_store: Path, identity, write_clips_of: Write, ok_outcome, features
):
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ["a"])
        writer.compact()
        claim = writer.claim(["b"])
        cls, patch = features("b", identity)
        short = ok_outcome("b", distinct_frames=2, flags=("5.5 s cut", "0.25 s cut"))
        writer.write_block(claim, [short], cls[None], patch[None])
        writer.compact()
    assert describe_store(empty_store).short_clips == 1
    assert describe_store(empty_store).flags == {"# s cut": 2, "decoded # of # declared frames": 1}
    first = describe_store(empty_store, version=1)
    assert (first.clips, first.version, first.newest_version, first.short_clips) == (1, 1, 2, 0)


def test_an_empty_store_is_described(empty_store: Path):
    info = describe_store(empty_store)
    assert (info.clips, info.failed, info.version, info.flags, info.backends) == (0, 0, 0, {}, {})


def _edit_root(store: Path, **changes: object) -> None:
    document = json.loads((store / "zarr.json").read_text())
    document["attributes"]["videodistill"].update(changes)
    (store / "zarr.json").write_text(json.dumps(document))


def test_everything_in_a_folder_is_a_row(filled, tmp_path: Path):
    stores = tmp_path / "stores"
    names = ("sound", "damaged", "clean", "newer", "broken", "headless")
    for name in names:
        shutil.copytree(filled.path, stores / "demo" / name)
    _edit_root(stores / "demo" / "newer", format="7")
    (stores / "demo" / "broken" / "zarr.json").write_text("{")
    (stores / "demo" / "headless" / "zarr.json").unlink()
    (stores / "demo" / "damaged" / "seg-000000" / "patch" / "c.1.0.0.0").unlink()
    (stores / "demo" / "sound" / "seg-000000" / "patch" / ".tmp-left").touch()
    (stores / "notes" / "deep" / "er").mkdir(parents=True)
    (stores / "other.zarr").mkdir()
    (stores / "other.zarr" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    (stores / "demo" / "sound.sentences").mkdir()
    (stores / "readme.txt").touch()

    rows = {
        Path(row.location).relative_to(stores).as_posix(): row
        for row in list_stores(stores, skip=lambda path: path.suffix == ".sentences")
    }
    assert {name: row.health for name, row in rows.items()} == {
        "demo/broken": "damaged",
        "demo/damaged": "damaged",
        "demo/clean": "sound",
        "demo/headless": "foreign",
        "demo/newer": "newer",
        "demo/sound": "sound",
        "notes": "foreign",
        "other.zarr": "foreign",
    }
    assert rows["demo/clean"].detail == ""
    assert rows["demo/sound"].detail == "1 notice"
    assert "c.1.0.0.0 is missing" in rows["demo/damaged"].detail
    assert "later than 1" in rows["demo/newer"].detail
    assert rows["demo/damaged"].info.clips == 9
    assert rows["demo/newer"].info is None
    assert all(json.dumps(row.to_json()) for row in rows.values())
    assert [row.health for row in list_stores(stores / "demo" / "damaged", check=False)] == [
        "unchecked"
    ]


def test_features_that_look_wrong_are_not_seen_by_a_quick_check(
    tmp_path: Path, identity, ok_outcome
):
    """The quick check of a listing reads no features; `verify_store` does."""
    create_store(tmp_path / "s", identity, block_slots=2, segment_slots=4)
    with StoreWriter(tmp_path / "s", identity) as writer:
        claim = writer.claim(["a"])
        patch = np.ones((1, identity.frames, identity.patches, identity.dim), np.float16)
        writer.write_block(claim, [ok_outcome("a")], patch[:, :, 0], patch)
        writer.compact()
    (row,) = list_stores(tmp_path)
    assert (row.health, row.info.clips) == ("sound", 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_a_row(filled, tmp_path: Path):
    (tmp_path / "secret").mkdir(mode=0)
    rows = {Path(row.location).name: row.health for row in list_stores(tmp_path)}
    assert rows == {"secret": "unreadable", "store": "sound"}


def test_an_absent_folder_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no folder"):
        list(list_stores(tmp_path / "nothing"))
    assert list(list_stores(tmp_path)) == []
