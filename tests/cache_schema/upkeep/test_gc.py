"""Collecting: what nobody can ask for goes, and nothing else, however the store is used meanwhile."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import CorruptStore, InputError, StoreWriter, open_store, verify_store
from cache_schema.store_root import read_root
from cache_schema.upkeep import gc as collecting
from cache_schema.upkeep.gc import collect, plan_gc
from cache_schema.upkeep.pins import pin_version, read_pins, unpin

DAY_S = 86400.0
Write = Callable[..., None]


def age(path: Path, days: float, pattern: str = "**/*") -> None:
    """Makes files look as if they were written so long ago."""
    then = time.time() - days * DAY_S
    for file in path.glob(pattern):
        if file.is_file():
            os.utime(file, (then, then))


def kinds(path: Path, **options: float) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in plan_gc(path, **options).garbage:
        found[item.kind] = found.get(item.kind, 0) + 1
    return found


def test_a_sound_store_has_no_garbage(filled) -> None:
    age(filled.path, 100)
    assert plan_gc(filled.path).garbage == ()
    assert plan_gc(filled.path).kept_versions == (1,)


def test_leftovers_go_when_they_are_old(filled, write_claimed: Write) -> None:
    with StoreWriter(filled.path, filled.identity) as writer:
        claim = writer.claim(["x"])
        slot = 4 * claim.block
        half = filled.path / f"seg-00000{claim.segment}/patch/c.{slot}.0.0.0"
        half.write_bytes(b"half")
        (half.parent / ".tmp-c.5.0.0.0-0123").write_bytes(b"")
        age(filled.path, 8)
        # Its claim lives: the shard may become whole yet.
        assert kinds(filled.path) == {"temporary": 1}
    assert kinds(filled.path) == {"temporary": 1, "abandoned": 1}
    assert kinds(filled.path, older_than_s=9 * DAY_S) == {}
    plan = collect(filled.path)
    assert {item.place for item in plan.garbage} == {
        half.relative_to(filled.path).as_posix(),
        f"seg-00000{claim.segment}/patch/.tmp-c.5.0.0.0-0123",
    }
    assert plan.bytes == 4
    assert not half.exists()
    assert {found.code for found in verify_store(filled.path)} <= {"not-compacted"}


def test_what_was_just_written_is_spared_whatever_the_age_asked_for(filled) -> None:
    (filled.path / "commits/.tmp-just-now").write_bytes(b"")
    (filled.path / "manifest" / f"part-{'0' * 32}.index").write_bytes(b"of a fold under way")
    assert kinds(filled.path, older_than_s=0) == {}
    age(filled.path, 0.01)
    assert kinds(filled.path, older_than_s=0) == {"temporary": 1, "version": 1}


def test_the_claims_of_dead_processes_are_ended_first(
    empty_store: Path, identity: object, run_python: Callable
) -> None:
    script = (
        "import sys, os, conftest, cache_schema\n"
        "writer = cache_schema.StoreWriter(sys.argv[1], conftest.make_identity())\n"
        "claim = writer.claim(['a'])\n"
        "cls, patch = conftest.features('a', writer.identity)\n"
        "writer._publish_patches(claim, {0: conftest.ok_outcome('a')}, patch[None])\n"
        "os._exit(9)\n"
    )
    process = run_python(script, empty_store)
    process.communicate(timeout=60)
    assert process.returncode == 9
    age(empty_store, 8)
    assert kinds(empty_store) == {}
    assert [item.place for item in collect(empty_store).garbage] == ["seg-000000/patch/c.0.0.0.0"]
    assert (empty_store / "commits/000000.000000.json").exists()


@pytest.fixture
def replaced(filled, write_claimed: Write) -> Path:
    """``c1`` was replaced, which made version 2; then a block came, which made version 3."""
    with StoreWriter(filled.path, filled.identity) as writer:
        write_claimed(writer, writer.claim(["c1"], replace=True), attempt=1)
        writer.compact()
        write_claimed(writer, writer.claim(["x"]))
        writer.compact()
    return filled.path


OLD_PATCH = "seg-000000/patch/c.1.0.0.0"


def test_replaced_features_go_with_the_last_version_that_shows_them(
    replaced: Path, filled, features: Callable
) -> None:
    age(replaced, 8)
    # Version 1 was the newest until version 2 came, a day ago.
    age(replaced, 1, "manifest/v000002.json")
    age(replaced, 1, "manifest/v000003.json")
    assert kinds(replaced) == {}
    age(replaced, 8)
    plan = collect(replaced)
    assert OLD_PATCH in {item.place for item in plan.garbage if item.kind == "replaced"}
    # Other clips of its block are still there, and so is the block's cls shard.
    assert not any("cls" in item.place for item in plan.garbage)
    assert plan.kept_versions == (3,)
    assert not (replaced / "manifest/v000001.json").exists()
    store = open_store(replaced)
    others = [clip_id for clip_id in filled.ok if clip_id != "c1"]
    np.testing.assert_array_equal(store.read_patches(others), filled.patch(others))
    np.testing.assert_array_equal(
        store.read_patches(["c1"])[0], features("c1", filled.identity, 1)[1]
    )
    assert verify_store(replaced) == []
    assert plan_gc(replaced).garbage == ()
    with pytest.raises(InputError, match="no manifest version 1"):
        open_store(replaced, 1)


def test_a_pinned_version_keeps_all_that_it_shows(replaced: Path, filled) -> None:
    root = read_root(replaced)
    pin = pin_version(root, "paper", 1, note="table 2")
    assert read_pins(root.storage) == [pin]
    age(replaced, 100)
    plan = collect(replaced)
    assert plan.kept_versions == (1, 3)
    assert plan.garbage[0].place == "manifest/v000002.json"
    assert not any(item.kind == "replaced" for item in plan.garbage)
    np.testing.assert_array_equal(
        open_store(replaced, 1).read_patches(filled.ok), filled.patch(filled.ok)
    )
    assert verify_store(replaced) == []
    unpin(root, "paper")
    assert OLD_PATCH in {item.place for item in collect(replaced).garbage}


def test_a_version_published_while_looking_stays(
    filled, write_claimed: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    age(filled.path, 100)
    look = collecting.read_pins
    published = []

    def publish_first(storage):
        if not published:
            with StoreWriter(filled.path, filled.identity) as writer:
                write_claimed(writer, writer.claim(["x"]))
                published.append(writer.compact())
        return look(storage)

    monkeypatch.setattr(collecting, "read_pins", publish_first)
    collect(filled.path, older_than_s=0)
    store = open_store(filled.path)
    assert store.version == published[0]
    assert "x" in store
    assert store.read_cls(filled.ok).shape[0] == len(filled.ok)


def test_a_pin_that_comes_between_looking_and_removing_counts(
    replaced: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = collecting.plan_gc

    def overtaken(*arguments: object, **options: object) -> object:
        monkeypatch.undo()
        plan = real(*arguments, **options)
        pin_version(read_root(replaced), "late", 1)
        return plan

    age(replaced, 100)
    monkeypatch.setattr(collecting, "plan_gc", overtaken)
    plan = collect(replaced)
    assert plan.kept_versions == (1, 3)
    assert len(open_store(replaced, 1)) == 9
    assert verify_store(replaced) == []


@pytest.mark.parametrize(
    "name", ["commits/000000.000001.json", "manifest/v000003.json", "pins/p.json"]
)
def test_nothing_is_removed_from_a_damaged_store(replaced: Path, name: str) -> None:
    pin_version(read_root(replaced), "p", 1)
    age(replaced, 100)
    file = replaced / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CorruptStore) as caught:
        collect(replaced)
    assert caught.value.file == str(file)


@pytest.mark.parametrize(
    ("name", "version", "problem"),
    [
        ("paper", 9, "no manifest version 9"),
        ("../x", 1, "does not match"),
        ("", 1, "is empty"),
        ("taken", 1, "has a pin 'taken' already, of version 2"),
        ("none", 0, "no manifest version to pin"),
    ],
)
def test_pins_that_cannot_be_made(replaced: Path, name: str, version: int, problem: str) -> None:
    root = read_root(replaced)
    pin_version(root, "taken", 2)
    with pytest.raises(InputError, match=problem):
        pin_version(root, name, version)
    with pytest.raises(InputError, match="no pin 'other'; it has taken"):
        unpin(root, "other")
