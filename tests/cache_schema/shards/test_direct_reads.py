"""Reading around the page cache gives what reading through it gives, and finds the same damage."""

import errno
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schema import CorruptStore, InputError, open_store
from cache_schema.shards import shard_file
from cache_schema.shards.direct_reads import read_directly

FilledStore = Any
"""A ``conftest.FilledStore``."""
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def direct_store(filled: FilledStore) -> FilledStore:
    """The filled store, where its file system can do it."""
    try:
        descriptor = os.open(filled.path / "zarr.json", os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        pytest.skip(f"the file system of the temporary folder has no O_DIRECT: {error}")
    os.close(descriptor)
    return filled


@pytest.mark.parametrize("check", [True, False])
def test_reads_the_same(direct_store: FilledStore, check: bool) -> None:
    store = open_store(direct_store.path, check=check, direct=True)
    ok = direct_store.ok
    np.testing.assert_array_equal(store.read_cls(ok), direct_store.cls(ok))
    np.testing.assert_array_equal(store.read_patches(ok), direct_store.patch(ok))
    frames = np.array([[4, 0, 1], [2, 2, 3]])
    np.testing.assert_array_equal(
        store.read_patches(ok[:2], frames), direct_store.patch(ok[:2])[[[0], [1]], frames]
    )


def test_a_copy_of_the_reader_reads_the_same_way(
    direct_store: FilledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        shard_file, "read_directly", lambda *args: asked.append(args) or read_directly(*args)
    )
    for direct in (False, True):
        store = pickle.loads(pickle.dumps(open_store(direct_store.path, direct=direct)))  # noqa: S301
        store.read_patches(direct_store.ok[:1])
        assert bool(asked) == direct


@pytest.mark.parametrize("damage", ["bit", "short", "missing"])
def test_damage_is_found(direct_store: FilledStore, damage: str) -> None:
    file = direct_store.path / "seg-000000/patch/c.1.0.0.0"
    content = file.read_bytes()
    file.unlink()
    if damage == "bit":
        file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "short":
        file.write_bytes(content[:30])
    with pytest.raises(CorruptStore, match="'c1'"):
        open_store(direct_store.path, direct=True).read_patches(["c1"])


def test_a_file_system_that_cannot_is_named(
    filled: FilledStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str, flags: int, *args: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument", path)
        return real(path, flags, *args)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match="Open the store without `direct`"):
        open_store(filled.path, direct=True).read_cls(filled.ok)


def test_a_remote_store_has_no_page_cache(remote: Any) -> None:
    with pytest.raises(InputError, match="is not local"):
        open_store(remote.url, direct=True)


@pytest.mark.parametrize(
    ("start", "size"),
    [(0, 1), (1, PAGE), (PAGE - 1, 2), (3 * PAGE, 5), (5, 4 * PAGE), (3 * PAGE + 90, 50)],
    ids=str,
)
def test_any_part_of_a_file(tmp_path: Path, start: int, size: int) -> None:
    """Parts at the end come short, as other reads give them."""
    content = np.random.default_rng(0).bytes(3 * PAGE + 100)
    (tmp_path / "file").write_bytes(content)
    try:
        descriptor = os.open(tmp_path / "file", os.O_RDONLY | os.O_DIRECT)
    except OSError as error:
        pytest.skip(f"the file system of the temporary folder has no O_DIRECT: {error}")
    try:
        assert bytes(read_directly(descriptor, start, size)) == content[start : start + size]
    finally:
        os.close(descriptor)
