"""The read-through cache: verified copies of what was read, kept to a limit, never trusted blindly."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schema import (
    InputError,
    open_store,
)
from cache_schema.shards import turns
from cache_schema.storage.object_client import Piece
from cache_schema.storage.object_storage import ObjectStorage
from cache_schema.storage.storage import open_storage

Write = Callable[..., None]
PATCH = "seg-000000/patch/c.1.0.0.0"
SHARD = 344  # bytes of a clip's patches
RemoteStore = Any
"""A ``conftest.RemoteStore``."""


def test_a_cache_answers_the_second_time(
    remote: RemoteStore, tmp_path: Path, requests: list[Piece]
) -> None:
    store = open_store(remote.url, cache=tmp_path / "cache")
    requests.clear()
    for _ in range(2):
        np.testing.assert_array_equal(store.read_patches(remote.ok), remote.local.patch(remote.ok))
        np.testing.assert_array_equal(store.read_cls(remote.ok), remote.local.cls(remote.ok))
        assert len(requests) == 9 + 3
    assert (store.cache.hits, store.cache.misses) == (18, 12)
    # Other processes find the copies, and shards that are gone from the server are read from them.
    open_storage(remote.url).delete(PATCH)
    other = open_store(remote.url, cache=tmp_path / "cache")
    np.testing.assert_array_equal(other.read_patches(["c1"]), remote.local.patch(["c1"]))
    assert (other.cache.hits, other.cache.misses) == (1, 0)
    copies = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert len(copies) == 12


def test_a_damaged_copy_is_fetched_again(remote: RemoteStore, tmp_path: Path) -> None:
    store = open_store(remote.url, cache=tmp_path / "cache")
    store.read_patches(["c1"])
    (copy,) = (tmp_path / "cache").rglob("c.1.0.0.0")
    whole = copy.read_bytes()
    for spoiled in (bytes([whole[0] ^ 1]) + whole[1:], whole[:70], b""):
        copy.write_bytes(spoiled)
        again = open_store(remote.url, cache=tmp_path / "cache")
        np.testing.assert_array_equal(again.read_patches(["c1"]), remote.local.patch(["c1"]))
        assert (again.cache.hits, again.cache.misses) == (0, 1)
        assert copy.read_bytes() == open_storage(remote.url).read(PATCH)


@pytest.mark.parametrize("limit", [0, 344, 1100])
def test_a_cache_keeps_to_its_limit(remote: RemoteStore, tmp_path: Path, limit: int) -> None:
    store = open_store(remote.url, cache=tmp_path / "cache", cache_bytes=limit)
    for clip_id in remote.ok * 2:
        np.testing.assert_array_equal(store.read_patches([clip_id]), remote.local.patch([clip_id]))
        held = sum(f.stat().st_size for f in (tmp_path / "cache").rglob("c.*"))
        assert held <= limit
    assert limit < 400 or held > 344


def test_a_shard_that_threads_want_at_once_is_fetched_once(
    remote: RemoteStore, tmp_path: Path, requests: list[Piece], monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = ObjectStorage.fetch

    def slow(self: ObjectStorage, pieces: list[Piece]) -> list[Any]:
        time.sleep(0.05)  # in which all threads have seen that there is no copy
        return fetch(self, pieces)

    monkeypatch.setattr(ObjectStorage, "fetch", slow)
    store = open_store(remote.url, cache=tmp_path / "cache")
    requests.clear()
    with ThreadPoolExecutor(8) as pool:
        for read in pool.map(store.read_patches, [["c1"]] * 8):
            np.testing.assert_array_equal(read, remote.local.patch(["c1"]))
    assert [piece.key for piece in requests] == [PATCH]
    assert (store.cache.hits, store.cache.misses) == (7, 1)


def test_a_forked_child_waits_for_none_of_its_parents_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = turns.Turns()
    with held.hold({"a", "b"}):
        monkeypatch.setattr(turns.os, "getpid", lambda: -1)
        with held.hold({"a"}):
            pass


def test_a_full_cache_keeps_what_it_has(
    remote: RemoteStore, tmp_path: Path, requests: list[Piece]
) -> None:
    store = open_store(remote.url, cache=tmp_path / "cache", cache_bytes=3 * SHARD + 10)
    for epoch in range(3):
        requests.clear()
        for clip_id in np.random.default_rng(epoch).permutation(remote.ok):
            store.read_patches([clip_id])
        # What finds no room is asked for once, too.
        assert len(requests) == (9 if epoch == 0 else 6)
    assert (store.cache.hits, store.cache.misses) == (6, 3)


def test_a_cache_makes_room_among_other_stores_and_below_a_lower_limit(
    remote: RemoteStore, tmp_path: Path
) -> None:
    def kept(shards: int) -> tuple[Path, int]:
        store = open_store(remote.url, cache=tmp_path / "cache", cache_bytes=shards * SHARD)
        store.read_patches(remote.ok)
        assert len(list((tmp_path / "cache").rglob("c.*"))) <= shards
        return store.cache.root, len(list(store.cache.root.rglob("c.*")))

    first, count = kept(4)
    assert count == 4
    storage = open_storage(remote.url)
    document = storage.read("zarr.json").replace(b'"created": "20', b'"created": "19')
    storage.replace("zarr.json", document)
    second, count = kept(4)
    assert second != first
    assert (count, list(first.rglob("c.*"))) == (4, [])
    assert kept(2) == (second, 2)


def test_a_cache_that_cannot_be_written_costs_only_time(
    remote: RemoteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(remote.url, cache=tmp_path / "cache")

    def full(_path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for _ in range(2):
        np.testing.assert_array_equal(store.read_patches(["c1"]), remote.local.patch(["c1"]))
    assert store.cache.misses == 2


def test_a_cache_is_for_remote_stores_and_in_a_folder(remote: RemoteStore, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is local"):
        open_store(remote.local.path, cache=tmp_path / "cache")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="which is a file"):
        open_store(remote.url, cache=tmp_path / "file")


def test_a_store_made_anew_at_the_same_place_shares_no_copies(
    remote: RemoteStore, tmp_path: Path
) -> None:
    first = open_store(remote.url, cache=tmp_path / "cache")
    storage = open_storage(remote.url)
    document = storage.read("zarr.json").replace(b'"created": "20', b'"created": "19')
    storage.replace("zarr.json", document)
    assert open_store(remote.url, cache=tmp_path / "cache").cache.root != first.cache.root
