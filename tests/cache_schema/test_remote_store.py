"""A store in an object store is the same store: same bytes, same errors, same protocol."""

import http.server
import os
import pickle
import re
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cache_schema import (
    ClipMissing,
    CorruptStore,
    FeatureIdentity,
    IdentityMismatch,
    InputError,
    StoreAbsent,
    StoreError,
    StoreForeign,
    StoreUnreachable,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.blocks.block_claim import ClaimRecord
from cache_schema.blocks.process_owner import ProcessOwner
from cache_schema.shards import remote_shards
from cache_schema.storage import object_storage
from cache_schema.storage.object_client import Piece
from cache_schema.storage.object_storage import ObjectStorage
from cache_schema.storage.storage import open_storage

Write = Callable[..., None]
PATCH = "seg-000000/patch/c.1.0.0.0"


@dataclass(frozen=True)
class RemoteStore:
    """The store of the fixture ``filled``, written again into an object store."""

    url: str
    local: object

    @property
    def ok(self) -> list[str]:
        return self.local.ok


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """What a writer has made of the clips, by key; written by the first test that needs it."""
    return {}


@pytest.fixture
def remote(
    filled, bucket_url: str, write_clips_of: Write, written: dict[str, bytes]
) -> RemoteStore:
    storage = open_storage(bucket_url)
    for key, content in written.items():
        storage.replace(key, content)
    if not written:
        create_store(bucket_url, filled.identity, block_slots=4, segment_slots=8)
        with StoreWriter(bucket_url, filled.identity, job="fill") as writer:
            write_clips_of(writer, [f"c{number}" for number in range(10)], failed=("c2",))
            writer.compact()
        written.update({file.key: storage.read(file.key) for file in storage.walk()})
    return RemoteStore(bucket_url, filled)


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


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Every piece of a shard that is asked for from now on."""
    asked: list[Piece] = []
    real = ObjectStorage.fetch

    def fetch(self: ObjectStorage, pieces: list[Piece]) -> list[object]:
        asked.extend(piece for piece in pieces if piece.key.startswith("seg-"))
        return real(self, pieces)

    monkeypatch.setattr(ObjectStorage, "fetch", fetch)
    return asked


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


_RACE = """
import sys, conftest, cache_schema
identity = conftest.make_identity()
cache_schema.create_store(sys.argv[1], identity, block_slots=4, segment_slots=8)
written = []
with cache_schema.StoreWriter(sys.argv[1], identity, job=sys.argv[2]) as writer:
    while pending := writer.pending([f"c{number:02d}" for number in range(24)]):
        claim = writer.claim(pending[:4])
        if claim is None:
            continue
        conftest.write_claimed(writer, claim, attempt=int(sys.argv[2]))
        written += claim.clip_ids
    writer.compact()
print(*written)
"""


def test_racing_writers_share_the_clips_and_lose_none(
    bucket_url: str,
    identity: FeatureIdentity,
    features: Callable,
    run_python: Callable[..., subprocess.Popen[str]],
) -> None:
    jobs = [run_python(_RACE, bucket_url, number) for number in range(2)]
    written = [job.communicate(timeout=120)[0].split() for job in jobs]
    ids = [f"c{number:02d}" for number in range(24)]
    assert [job.returncode for job in jobs] == [0, 0]
    assert sorted(clip_id for part in written for clip_id in part) == ids
    store = open_store(bucket_url)
    assert store.clip_ids == ids
    for attempt, clip_ids in enumerate(written):
        for clip_id in clip_ids:
            np.testing.assert_array_equal(
                store.read_patches([clip_id])[0], features(clip_id, identity, attempt)[1]
            )
    assert [f for f in verify_store(bucket_url) if f.severity != "notice"] == []


def test_a_claim_of_another_machine_lives_by_the_servers_clock(
    bucket_url: str, identity: FeatureIdentity
) -> None:
    create_store(bucket_url, identity, block_slots=4, segment_slots=8)
    storage = open_storage(bucket_url)
    with StoreWriter(bucket_url, identity) as owner:
        claim = owner.claim(["a"])
        elsewhere = ProcessOwner(host="elsewhere", pid=1, pid_start="1")
        record = ClaimRecord(claim=claim, owner=elsewhere)
        storage.replace(f"claims/{claim.name}", record.encode())
        with StoreWriter(bucket_url, identity, lease_s=60) as writer:
            assert writer.pending(["a"]) == []
        time.sleep(3.2)
        assert storage.age_s(f"claims/{claim.name}") > 2
        owner.beat()
        assert storage.age_s(f"claims/{claim.name}") < 2
        time.sleep(3.2)
        with StoreWriter(bucket_url, identity, lease_s=2) as writer:
            assert writer.pending(["a"]) == ["a"]


def test_absent_foreign_and_other_are_told_apart(
    bucket_url: str, make_identity: Callable[..., FeatureIdentity]
) -> None:
    with pytest.raises(StoreAbsent):
        open_store(bucket_url)
    storage = open_storage(bucket_url)
    storage.create("notes.txt", b"mine")
    for call in (open_store, partial(create_store, identity=make_identity())):
        with pytest.raises(StoreForeign, match=r"notes\.txt"):
            call(bucket_url)
    storage.delete("notes.txt")
    create_store(bucket_url, make_identity(), block_slots=4, segment_slots=8)
    with pytest.raises(IdentityMismatch, match="precision"):
        create_store(bucket_url, make_identity(precision="bf16"))


def test_a_creation_that_died_after_the_root_is_finished_by_the_first_claim(
    bucket_url: str, identity: FeatureIdentity, write_clips_of: Write
) -> None:
    create_store(bucket_url, identity, block_slots=4, segment_slots=8)
    storage = open_storage(bucket_url)
    made = {file.key: storage.read(file.key) for file in storage.walk()}
    for key in made:
        if key != "zarr.json":
            storage.delete(key)
    assert len(open_store(bucket_url)) == 0
    with StoreWriter(bucket_url, identity) as writer:
        write_clips_of(writer, ["a"])
        writer.compact()
    assert {key: storage.read(key) for key in made} == made
    assert verify_store(bucket_url) == []
    storage.delete("seg-000000/patch/zarr.json")
    with pytest.raises(CorruptStore, match=r"patch/zarr\.json: is missing"):
        open_store(bucket_url)


def test_a_connection_cut_while_sending_leaves_nothing_half(
    bucket_url: str,
    cutting_proxy,
    make_identity: Callable[..., FeatureIdentity],
    write_clips_of: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    identity = make_identity(patches=64, dim=256)  # 164 KB a clip: sent in several pieces
    create_store(bucket_url, identity, block_slots=2, segment_slots=4)
    with StoreWriter(bucket_url, identity) as writer:
        # Cut twice, it is sent a third time.
        cutting_proxy.arm(60_000, times=2)
        write_clips_of(writer, ["a", "b"])
        assert cutting_proxy.cuts == 2
        # What arrived, though its answer was lost, counts as sent.
        cutting_proxy.arm(60_000, times=1, answers=True)
        write_clips_of(writer, ["c", "d"])
        assert cutting_proxy.cuts == 1
        # Cut for good, the block fails and nothing of it shows.
        monkeypatch.setattr(object_storage, "_WAITS_S", (0.0,))
        cutting_proxy.arm(60_000, times=10**6)
        with pytest.raises(StoreUnreachable, match=r"patch/c\.0\.0\.0\.0"):
            write_clips_of(writer, ["e", "f"])
        storage = open_storage(bucket_url)
        assert storage.names("seg-000001/patch") == ["zarr.json"]
        assert storage.names("seg-000001/cls") == ["zarr.json"]
        assert writer.compact() == 1
    assert open_store(bucket_url).clip_ids == ["a", "b", "c", "d"]
    cutting_proxy.arm(60_000, times=0)
    with StoreWriter(bucket_url, identity) as writer:
        assert writer.pending(list("abcdef")) == ["e", "f"]
        write_clips_of(writer, ["e", "f"])
        writer.compact()
    assert open_store(bucket_url).clip_ids == list("abcdef")
    assert verify_store(bucket_url) == []


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
    for spoiled in (_flip(copy.read_bytes()), copy.read_bytes()[:70], b""):
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


class _Ranges(http.server.BaseHTTPRequestHandler):
    """A web server of a folder that knows ranges, as any real one does; http.server's does not."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, *, body: bool = True) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, status = path.read_bytes(), 200
        size, asked = len(content), re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        if asked:
            first = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
            last = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
            status, content = 206, content[first : last + 1]
        self.send_response(status)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def web_url(filled) -> Iterator[str]:
    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        folder = filled.path.parent

    with Server(("127.0.0.1", 0), _Ranges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{filled.path.name}/"
        server.shutdown()


def test_a_store_on_a_web_server_can_be_read(filled, web_url: str, tmp_path: Path) -> None:
    for store in (open_store(web_url), open_store(web_url, cache=tmp_path / "cache")):
        assert store.clip_ids == filled.ok
        np.testing.assert_array_equal(store.read_patches(filled.ok), filled.patch(filled.ok))
        frames = [[4, 0, 2]] * len(filled.ok)
        np.testing.assert_array_equal(
            store.read_patches(filled.ok, frames), filled.patch(filled.ok)[:, [4, 0, 2]]
        )
        np.testing.assert_array_equal(store.read_cls(filled.ok), filled.cls(filled.ok))
        assert store.outcome("c2").reason == "truncated"
    (filled.path / PATCH).unlink()
    with pytest.raises(CorruptStore, match="'c1', is missing"):
        open_store(web_url).read_patches(["c1"])


def test_a_store_on_a_web_server_can_only_be_read(
    filled, web_url: str, identity: FeatureIdentity
) -> None:
    before = sorted(file for file in filled.path.rglob("*"))
    with pytest.raises(StoreAbsent):
        open_store(web_url + "nothing")
    for call in (
        lambda: create_store(web_url + "new", identity),
        lambda: StoreWriter(web_url, identity).claim(["new"]),
        lambda: verify_store(web_url),
    ):
        with pytest.raises(StoreError, match=r"can only be read|cannot be listed"):
            call()
    assert sorted(file for file in filled.path.rglob("*")) == before


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
