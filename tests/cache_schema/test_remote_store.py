"""A store in an object store is the same store: same bytes, same errors."""

import os
import pickle
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schema import (
    ClipMissing,
    CorruptStore,
    StoreUnreachable,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.shards import remote_shards
from cache_schema.storage.object_client import Piece
from cache_schema.storage.object_storage import ObjectStorage
from cache_schema.storage.storage import open_storage

Write = Callable[..., None]
PATCH = "seg-000000/patch/c.1.0.0.0"
RemoteStore = Any
"""A ``conftest.RemoteStore``."""


def test_it_holds_the_bytes_of_a_local_store(remote: RemoteStore) -> None:
    here, there = open_storage(remote.local.path), open_storage(remote.url)
    shards = {file.key for file in here.walk() if file.key.rpartition("/")[2].startswith("c.")}
    metadata = {file.key for file in here.walk() if re.fullmatch(r"seg-.*zarr\.json", file.key)}
    kinds = {key.partition("/")[0] for key in (file.key for file in here.walk())}
    found = {file.key for file in there.walk()}
    assert len(shards) == 9 + 3
    assert shards | metadata <= found
    assert {key.partition("/")[0] for key in found} == kinds
    assert {key for key in found if "/c." in key} == shards
    for key in shards | metadata:
        assert there.read(key) == here.read(key)


def test_it_reads_as_a_local_store_and_verifies(remote: RemoteStore) -> None:
    store, local = open_store(remote.url), open_store(remote.local.path)
    assert store.location == remote.url
    assert (store.version, store.identity, len(store)) == (1, local.identity, 9)
    assert store.clip_ids == remote.ok
    left_out = ["committed"]
    assert store.manifest().drop_columns(left_out) == local.manifest().drop_columns(left_out)
    assert store.outcome("c2") == local.outcome("c2")
    np.testing.assert_array_equal(store.frame_times("c1"), local.frame_times("c1"))
    with pytest.raises(ClipMissing, match=f"failed in extraction.*{remote.url}"):
        store.read_cls(["c2"])
    for quick in (True, False):
        assert verify_store(remote.url, quick=quick) == []
    create_store(remote.url, store.identity)
    assert verify_store(remote.url) == []


@pytest.fixture(params=["plain", "small requests", "cached"])
def opened(
    request: pytest.FixtureRequest,
    remote: RemoteStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> object:
    if request.param == "cached":
        return open_store(remote.url, cache=tmp_path / "cache")
    if request.param == "small requests":
        # A chunk of patches has 52 bytes here: every request is one chunk, every wave one shard.
        monkeypatch.setattr(remote_shards, "_GAP_BYTES", 0)
        monkeypatch.setattr(remote_shards, "_PIECE_BYTES", 60)
        monkeypatch.setattr(remote_shards, "_FLIGHT_BYTES", 100)
    return open_store(remote.url)


def test_any_clips_and_frames_are_read_again_and_again(opened, remote: RemoteStore) -> None:
    rng = np.random.default_rng(5)
    for _ in range(12):
        clips = rng.choice(remote.ok, rng.integers(0, 8)).tolist()
        frames = rng.integers(0, 5, (len(clips), rng.integers(0, 7)))
        patch = remote.local.patch(clips) if clips else np.empty((0, 5, 3, 8), np.float16)
        rows = np.arange(len(clips))[:, None]
        np.testing.assert_array_equal(opened.read_patches(clips, frames), patch[rows, frames])
        np.testing.assert_array_equal(opened.read_patches(clips), patch)
        out = np.zeros((len(clips), 5, 8), np.float16)
        assert opened.read_cls(clips, out) is out
        if clips:
            np.testing.assert_array_equal(out, remote.local.cls(clips))


def test_requests_are_few(remote: RemoteStore, requests: list[Piece]) -> None:
    store = open_store(remote.url)
    requests.clear()
    store.read_patches(["c0", "c1", "c5"])
    # A whole clip is one request, with the index at its end.
    assert requests == [Piece(f"seg-000000/patch/c.{n}.0.0.0", 0, 344) for n in (0, 1, 5)]
    requests.clear()
    # Frames that stand close together come together, and the index is not asked for again.
    store.read_patches(["c0"], [[4, 1, 1]])
    assert requests == [Piece("seg-000000/patch/c.0.0.0.0", 52, 4 * 52)]
    requests.clear()
    # One shard of cls holds a block: c4 to c7 come in one request, and with the index at its end.
    store.read_cls(["c6", "c4", "c7", "c5"])
    assert len(requests) == 1
    requests.clear()
    # The third block has but two clips, so its index stands elsewhere: that is learnt once.
    store.read_cls(["c8"])
    store.read_cls(["c9", "c8"])
    assert len(requests) == 3


def _flip(content: bytes) -> bytes:
    return content[:60] + bytes([content[60] ^ 4]) + content[61:]


@pytest.mark.parametrize(
    ("spoil", "frames", "message"),
    [
        (lambda _: None, None, "is missing"),
        (lambda _: None, [[2]], "is missing"),
        (lambda content: content[:100], None, "is damaged: its index"),
        (lambda content: content[:100], [[3]], "is damaged: its index"),
        (lambda _: b"", None, "is damaged: its index"),
        (_flip, None, "has a wrong crc32c in chunk 1"),
        (_flip, [[0, 1]], "has a wrong crc32c in chunk 1"),
        (lambda content: content[:-6] + b"x" + content[-5:], [[0]], "is damaged: its index fails"),
    ],
    ids=[
        "deleted", "deleted-some", "truncated", "truncated-some", "emptied", "flipped",
        "flipped-some", "index",
    ],
)  # fmt: skip
@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
def test_damage_is_named_with_its_clip_and_spares_the_others(
    remote: RemoteStore,
    tmp_path: Path,
    spoil: Callable[[bytes], bytes | None],
    frames: list | None,
    message: str,
    cached: bool,
) -> None:
    storage = open_storage(remote.url)
    spoiled = spoil(storage.read(PATCH))
    storage.delete(PATCH) if spoiled is None else storage.replace(PATCH, spoiled)
    store = open_store(remote.url, cache=tmp_path / "cache" if cached else None)
    if cached:
        message = message.replace("has a wrong", "is damaged: it has a wrong")
    with pytest.raises(CorruptStore, match=rf"c\.1\.0\.0\.0, .*'c1', {message}") as caught:
        store.read_patches(["c1"], frames)
    assert (caught.value.clip_id, caught.value.file) == ("c1", f"{remote.url}/{PATCH}")
    np.testing.assert_array_equal(
        store.read_patches(["c0", "c3"]), remote.local.patch(["c0", "c3"])
    )
    assert {(f.clip_id, f.place) for f in verify_store(remote.url)} == {("c1", PATCH)}


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.read_cls(["c1"]),
        lambda store: store.read_patches(["c1"], [[0]]),
        lambda store: store.outcome("c1"),
        lambda store: store.manifest(),
    ],
    ids=["cls", "patch", "outcome", "manifest"],
)
def test_a_server_that_does_not_answer_is_not_taken_for_damage(
    remote: RemoteStore, monkeypatch: pytest.MonkeyPatch, read: Callable[[object], object]
) -> None:
    store = open_store(remote.url)
    monkeypatch.setattr(
        ObjectStorage,
        "fetch",
        lambda _self, pieces: [StoreUnreachable(f"{piece.key}: no answer") for piece in pieces],
    )
    with pytest.raises(StoreUnreachable, match="no answer"):
        read(store)


def test_damage_after_a_first_read_is_found_too(remote: RemoteStore) -> None:
    store, storage = open_store(remote.url), open_storage(remote.url)
    store.read_patches(["c1"])
    good = storage.read(PATCH)
    storage.replace(PATCH, good[:60])
    for frames in (None, [[4]]):
        with pytest.raises(CorruptStore, match="'c1', ends before its data do"):
            store.read_patches(["c1"], frames)
    storage.replace(PATCH, _flip(good))
    assert not np.array_equal(
        open_store(remote.url, check=False).read_patches(["c1"]), remote.local.patch(["c1"])
    )


def test_an_index_out_of_order_is_followed(remote: RemoteStore) -> None:
    # Other programs may write a shard's chunks in any order.
    from google_crc32c import value

    storage = open_storage(remote.url)
    content = storage.read(PATCH)
    order, stride = [3, 0, 4, 1, 2], 52
    chunks = [content[chunk * stride : (chunk + 1) * stride] for chunk in range(5)]
    index = np.array([[order.index(chunk) * stride, stride] for chunk in range(5)], dtype="<u8")
    entries = index.tobytes()
    moved = b"".join(chunks[chunk] for chunk in order) + entries
    storage.replace(PATCH, moved + value(entries).to_bytes(4, "little"))
    store = open_store(remote.url)
    expected = remote.local.patch(["c1"])
    for frames in ([[0, 1, 2, 3, 4]], [[2, 2]], None):
        picked = expected if frames is None else expected[:, frames[0]]
        np.testing.assert_array_equal(store.read_patches(["c1"], frames), picked)


def test_many_threads_share_a_reader(remote: RemoteStore) -> None:
    store = open_store(remote.url)
    with ThreadPoolExecutor(8) as pool:
        for read in pool.map(lambda _: store.read_patches(remote.ok), range(24)):
            np.testing.assert_array_equal(read, remote.local.patch(remote.ok))


def test_a_reader_travels_as_url_and_version(remote: RemoteStore, tmp_path: Path) -> None:
    store = open_store(remote.url, cache=tmp_path / "cache", cache_bytes=10**6)
    sent = pickle.dumps(store)
    assert len(sent) < 500
    received = pickle.loads(sent)  # noqa: S301 -- made a line above
    assert (received.location, received.version) == (store.location, store.version)
    assert (received.cache.folder, received.cache.max_bytes) == (tmp_path / "cache", 10**6)
    np.testing.assert_array_equal(received.read_cls(["c1"]), remote.local.cls(["c1"]))


_FORKED = """
import multiprocessing, sys, conftest, numpy as np
from cache_schema import StoreWriter, open_store
store, ids = open_store(sys.argv[1]), ["c1", "c5", "c9"]
expected = store.read_patches(ids)
def child(number):
    np.testing.assert_array_equal(store.read_patches(ids), expected)
    with StoreWriter(sys.argv[1], store.identity) as writer:
        conftest.write_clips_of(writer, [f"from child {number}"])
    if number == 0:  # A fork of the fork.
        grandchild = context.Process(target=child, args=(2,))
        multiprocessing.current_process()._config["daemon"] = False
        grandchild.start(); grandchild.join(); assert grandchild.exitcode == 0
context = multiprocessing.get_context("fork")
children = [context.Process(target=child, args=(number,), daemon=True) for number in range(2)]
for process in children: process.start()
for process in children: process.join(60)
np.testing.assert_array_equal(store.read_patches(ids), expected)
print([process.exitcode for process in children])
"""


def test_forked_children_read_and_write(
    remote: RemoteStore, run_python: Callable[..., subprocess.Popen[str]]
) -> None:
    # The parent has used obstore, whose threads do not survive a fork: a child must not wait for
    # them. Children are daemons, as the workers of data loaders are.
    with run_python(_FORKED, remote.url) as process:
        assert process.communicate(timeout=120)[0].strip() == "[0, 0]"
    with StoreWriter(remote.url, remote.local.identity) as writer:
        writer.compact()
    assert set(open_store(remote.url).clip_ids) == {
        *remote.ok, "from child 0", "from child 1", "from child 2",
    }  # fmt: skip


def test_opening_a_local_store_loads_no_obstore(
    filled, run_python: Callable[..., subprocess.Popen[str]]
) -> None:
    script = (
        "import sys\nfrom cache_schema import open_store\nopen_store(sys.argv[1]).read_cls(['c1'])\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('obstore', 'zarr', 'torch')])"
    )
    with run_python(script, filled.path) as process:
        assert process.communicate(timeout=60)[0].strip() == "[]"


def test_zarr_reads_a_store_in_an_object_store(remote: RemoteStore) -> None:
    import zarr
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    source = from_url(f"{remote.url}/seg-000000", client_options={"allow_http": True})
    group = zarr.open_group(ObjectStore(source, read_only=True), mode="r")
    np.testing.assert_array_equal(group["patch"][1], remote.local.patch(["c1"])[0])
    np.testing.assert_array_equal(group["cls"][4], remote.local.cls(["c4"])[0])


def test_credentials_do_not_travel(remote: RemoteStore) -> None:
    sent = pickle.dumps(open_store(remote.url))
    assert os.environ["AWS_SECRET_ACCESS_KEY"].encode() not in sent
