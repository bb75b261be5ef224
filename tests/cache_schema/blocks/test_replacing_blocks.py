"""Blocks that replace: what they say of a clip goes before all that lower blocks say of it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import (
    ClipMissing,
    FeatureIdentity,
    Status,
    StoreBusy,
    StoreWriter,
    open_store,
    verify_store,
)
from cache_schema.blocks.block_claim import read_claim
from cache_schema.blocks.block_commit import read_commit
from cache_schema.storage.storage import open_storage

Write = Callable[..., None]


def _patch_of(path: Path, clip_id: str) -> np.ndarray:
    return open_store(path).read_patches([clip_id])[0]


def test_new_features_take_the_place_of_old_ones(
    filled, write_claimed: Write, features: Callable
) -> None:
    before = open_store(filled.path)
    with StoreWriter(filled.path, filled.identity) as writer:
        retry = writer.claim(["c1", "c2"])
        assert retry.clip_ids == ("c2",)
        writer.abandon(retry)
        claim = writer.claim(["c1", "c5"], replace=True)
        assert claim.replaces
        write_claimed(writer, claim, attempt=3)
        writer.compact()
    for clip_id in ("c1", "c5"):
        new = features(clip_id, filled.identity, 3)[1]
        np.testing.assert_array_equal(_patch_of(filled.path, clip_id), new)
    # A reader of the older version still sees what it saw.
    np.testing.assert_array_equal(before.read_patches(["c1"]), filled.patch(["c1"]))
    assert open_store(filled.path).clip_ids == filled.ok
    assert verify_store(filled.path) == []


def test_a_failure_takes_the_place_of_features(filled, write_claimed: Write) -> None:
    with StoreWriter(filled.path, filled.identity) as writer:
        write_claimed(writer, writer.claim(["c1", "c5"], replace=True), failed=("c1", "c5"))
        writer.compact()
        store = open_store(filled.path)
        assert store.outcome("c1").status is Status.FAILED
        with pytest.raises(ClipMissing):
            store.read_patches(["c1"])
        # It is a failure like any other: a retry ends it.
        assert writer.pending(["c1", "c3"]) == []
        assert writer.pending(["c1", "c3"], retry_failed=True) == ["c1"]
        write_claimed(writer, writer.claim(["c1"]), attempt=4)
        writer.compact()
    store = open_store(filled.path)
    assert "c1" in store
    assert "c5" not in store


@pytest.mark.parametrize("folded_between", [False, True])
def test_of_two_that_replace_the_higher_counts(
    filled, write_claimed: Write, features: Callable, folded_between: bool
) -> None:
    with StoreWriter(filled.path, filled.identity) as writer:
        low = writer.claim(["c1"], replace=True)
        write_claimed(writer, low, attempt=1)
        if folded_between:
            writer.compact()
        write_claimed(writer, writer.claim(["c1"], replace=True), attempt=2)
        writer.compact()
    new = features("c1", filled.identity, 2)[1]
    np.testing.assert_array_equal(_patch_of(filled.path, "c1"), new)


def test_a_new_ledger_reads_replacing_commits_in_their_order(
    empty_store: Path, identity: FeatureIdentity, write_clips_of: Write, write_claimed: Write
) -> None:
    # Nothing is folded here: the ledger reads the commits alone.
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ["a", "b"])
        write_claimed(writer, writer.claim(["a"], replace=True), failed=("a",))
    with StoreWriter(empty_store, identity) as writer:
        assert writer.pending(["a", "b"]) == []
        assert writer.pending(["a", "b"], retry_failed=True) == ["a"]


def test_only_one_process_replaces_a_clip_at_a_time(filled, write_claimed: Write) -> None:
    with (
        StoreWriter(filled.path, filled.identity) as first,
        StoreWriter(filled.path, filled.identity) as second,
    ):
        claim = first.claim(["c1", "c3"], replace=True)
        assert second.claim(["c1", "c5"], replace=True).clip_ids == ("c5",)
        assert second.claim(["c1"], replace=True) is None
        write_claimed(first, claim)
        assert second.claim(["c1"], replace=True).clip_ids == ("c1",)
        with pytest.raises(StoreBusy):
            write_claimed(first, claim)


def test_only_records_that_replace_say_so(filled, write_claimed: Write) -> None:
    storage = open_storage(filled.path)
    with StoreWriter(filled.path, filled.identity) as writer:
        claim = writer.claim(["c1"], replace=True)
        assert read_claim(storage, claim.name).claim == claim
        write_claimed(writer, claim)
        assert read_commit(storage, claim.name).replaces
        abandoned = writer.claim(["c1"], replace=True)
    assert not read_commit(storage, abandoned.name).replaces
    saying = [
        (file.parent.name, file.name)
        for folder in ("claims", "commits")
        for file in (filled.path / folder).iterdir()
        if "replaces" in json.loads(file.read_bytes())
    ]
    assert sorted(saying) == [
        ("claims", claim.name),
        ("claims", abandoned.name),
        ("commits", claim.name),
    ]


def test_a_failure_that_came_meanwhile_is_not_repeated(
    empty_store: Path, identity: FeatureIdentity, write_claimed: Write
) -> None:
    with StoreWriter(empty_store, identity) as first, StoreWriter(empty_store, identity) as second:
        assert second.pending(["a", "b"]) == ["a", "b"]
        write_claimed(first, first.claim(["a"]), failed=("a",))
        assert second.claim(["a", "b"]).clip_ids == ("b",)
        assert second.claim(["a"]) is None
        assert second.pending(["a"], retry_failed=True) == ["a"]
        assert second.claim(["a"]).clip_ids == ("a",)
