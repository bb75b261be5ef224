"""The read-through cache: verified copies of what was read, kept to a limit, never trusted blindly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schema import (
    InputError,
    open_store,
)
from cache_schema.storage.object_client import Piece
from cache_schema.storage.storage import open_storage

Write = Callable[..., None]
PATCH = "seg-000000/patch/c.1.0.0.0"
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
