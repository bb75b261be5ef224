"""One interface, the same behaviour: a folder, an object store, and that seen from a forked child."""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cache_schema import InputError, StoreDenied, StoreError, StoreUnreachable
from cache_schema.storage import object_client, object_storage
from cache_schema.storage.local_storage import LocalStorage
from cache_schema.storage.object_client import Fetched, ObjectInfo, Piece
from cache_schema.storage.object_storage import ObjectStorage
from cache_schema.storage.storage import Storage, absolute_location, open_storage


@pytest.fixture(params=["folder", "object store", "forked child"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "folder":
        return open_storage(tmp_path / "store")
    if request.param == "forked child":
        monkeypatch.setattr(object_storage, "obstore_is_forked", lambda: True)
    return open_storage(request.getfixturevalue("bucket_url"))


def test_a_file_is_created_once_and_read_back(storage: Storage) -> None:
    content = bytes(range(256)) * 40
    assert storage.create("zarr.json", content)
    assert storage.create("commits/a.json", b"")
    assert not storage.create("zarr.json", b"other")
    assert storage.read("zarr.json") == content
    assert (storage.size("zarr.json"), storage.size("commits/a.json")) == (len(content), 0)
    assert storage.exists("zarr.json")
    assert storage.read_ranges("zarr.json", [(0, 3), (300, 2), (len(content) - 1, 9)]) == [
        content[:3],
        content[300:302],
        content[-1:],
    ]
    storage.sync("commits")


@pytest.fixture
def rooted(storage: Storage) -> Storage:
    storage.create("zarr.json", b"{}")
    return storage


@pytest.mark.parametrize(
    "content",
    [memoryview(b"\xff\x00\x80"), memoryview(np.array([-1, 0, -128], np.int8)), b"\xff\x00\x80"],
    ids=["view", "of signed numbers", "bytes"],
)
def test_content_may_be_any_buffer(rooted: Storage, content: memoryview | bytes) -> None:
    assert rooted.create("a/b", content)
    rooted.replace("a/c", content)
    assert rooted.read("a/b") == rooted.read("a/c") == b"\xff\x00\x80"


def test_what_is_absent_is_said(rooted: Storage) -> None:
    for call in (rooted.read, rooted.age_s, rooted.touch):
        with pytest.raises(FileNotFoundError):
            call("claims/none")
    with pytest.raises(FileNotFoundError):
        rooted.read_ranges("claims/none", [(0, 1)])
    assert rooted.size("claims/none") is None
    assert not rooted.exists("claims/none")
    assert rooted.names("claims") == []
    rooted.delete("claims/none")


def test_files_are_replaced_and_deleted(rooted: Storage) -> None:
    rooted.replace("manifest/CURRENT", b"one")
    rooted.replace("manifest/CURRENT", b"two and more")
    assert rooted.read("manifest/CURRENT") == b"two and more"
    rooted.delete("manifest/CURRENT")
    assert not rooted.exists("manifest/CURRENT")
    assert rooted.create("manifest/CURRENT", b"three")


def test_names_are_those_of_one_folder(rooted: Storage) -> None:
    for key in ("claims/b", "claims/a", "claims/c", "claims-2/x", "claims/deep/y", "a"):
        rooted.create(key, b"1")
    assert sorted(rooted.names("claims")) == ["a", "b", "c"]
    assert sorted(rooted.names("claims", after="a")) == ["b", "c"]
    assert rooted.names("claims", after="c") == []
    walked = {file.key: file.size for file in rooted.walk()}
    assert walked == {
        "a": 1, "claims/a": 1, "claims/b": 1, "claims/c": 1, "claims-2/x": 1, "claims/deep/y": 1,
        "zarr.json": 2,
    }  # fmt: skip


def test_ages_go_by_the_storages_clock_and_touching_makes_young(rooted: Storage) -> None:
    rooted.create("claims/a", b"1")
    # Servers tell whole seconds.
    assert -1.5 <= rooted.age_s("claims/a") < 5
    time.sleep(2.2)
    assert rooted.age_s("claims/a") > 1
    (walked,) = [file for file in rooted.walk() if file.key == "claims/a"]
    assert walked.age_s == pytest.approx(rooted.age_s("claims/a"), abs=0.5)
    rooted.touch("claims/a")
    assert rooted.age_s("claims/a") < 1.5
    assert rooted.read("claims/a") == b"1"


def test_of_racing_creators_exactly_one_wins(rooted: Storage) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return rooted.create("claims/one", f"creator {number}".encode())

    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            won = list(pool.map(create, range(8)))
            assert sum(won) == 1
            assert rooted.read("claims/one") == f"creator {won.index(True)}".encode()
            rooted.delete("claims/one")


def test_a_deleted_local_store_does_not_come_back_as_a_ruin(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "store")
    with pytest.raises(FileNotFoundError, match="is gone"):
        storage.create("commits/a", b"1")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_may_not_be_written_still_tells_ages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"1")

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refuse)
    assert LocalStorage(tmp_path).age_s("a") < 5


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("ftp://server/store", "is no URL of a store"),
        ("file:///store", "is no URL of a store"),
        ("s3://", "is no URL of a store"),
        ("https://user:hunter2@server/store", "without user"),
        ("https://server/store?sig=hunter2", "without user, query"),
        (Path("s3://bucket/store"), "was a URL before it was made a path"),
        ("s3:/bucket/store", "was a URL before it was made a path"),
    ],
    ids=repr,
)
def test_odd_locations_are_refused_without_repeating_a_secret(
    location: str | Path, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_storage(location)
    assert "hunter2" not in str(caught.value)


def test_urls_stay_and_paths_become_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_location("s3://bucket/a") == "s3://bucket/a"
    assert absolute_location(Path("a")) == absolute_location("a") == str(tmp_path / "a")


def test_a_missing_library_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InputError, match=r"pip install 'videodistill-cache\[remote\]'"):
        open_storage("s3://bucket/store").read("zarr.json")


def test_refused_credentials_are_said_without_them(
    bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-private")
    with pytest.raises(StoreDenied, match="check the credentials in the environment") as caught:
        open_storage(bucket_url).read("zarr.json")
    text = str(caught.value)
    assert "wrong-and-private" not in text
    assert "tests" not in text.replace(bucket_url, "")
    assert "SignatureDoesNotMatch" in text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            'Generic error: GET https://host/a?sig=SECRET&x=1 in 2 s: "https://host/a?sig=SECRET"\nmore',
            'Generic error: GET https://host/a?... in 2 s: "https://host/a?..."',
        ),
        (
            "403 Forbidden: <?xml?><Error><Code>AccessDenied</Code><Key>SECRET</Key></Error>",
            "403 Forbidden (AccessDenied)",
        ),
    ],
    ids=["query", "body"],
)
def test_messages_lose_what_may_be_secret(error: str, message: str) -> None:
    assert object_client._reason(RuntimeError(error)) == message


class _Memory:
    """An object store as simple as can be, which need not be exclusive."""

    def __init__(self, *, exclusive: bool) -> None:
        self.objects: dict[str, bytes] = {}
        self.exclusive = exclusive

    def put(self, key: str, content: object, *, create: bool) -> None:
        if create and self.exclusive and key in self.objects:
            raise FileExistsError(key)
        self.objects[key] = bytes(content)

    def head(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, len(self.objects[key]), 1000.0)

    def read(self, pieces: list[Piece]) -> list[Fetched]:
        return [Fetched(self.objects[piece.key], len(self.objects[piece.key])) for piece in pieces]

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


@pytest.fixture
def memory_storage() -> Callable[[_Memory], ObjectStorage]:
    def make(memory: _Memory) -> ObjectStorage:
        storage = ObjectStorage("s3://bucket/store")
        storage._made = (os.getpid(), memory)
        return storage

    return make


def test_a_server_that_creates_twice_is_refused_before_the_first_file(
    memory_storage: Callable[[_Memory], ObjectStorage],
) -> None:
    memory = _Memory(exclusive=False)
    with pytest.raises(StoreError, match="two writers could overwrite each other"):
        memory_storage(memory).create("zarr.json", b"{}")
    assert memory.objects == {}


class _Deaf(_Memory):
    """Does what it is told, and loses the answer."""

    def put(self, key: str, content: object, *, create: bool) -> None:
        super().put(key, content, create=create)
        if key == "claims/a":
            raise StoreUnreachable("connection reset")


@pytest.mark.parametrize(("there", "won"), [(None, True), (b"of another", False)])
def test_a_creation_whose_answer_was_lost_is_known_by_its_content(
    memory_storage: Callable[[_Memory], ObjectStorage],
    monkeypatch: pytest.MonkeyPatch,
    there: bytes | None,
    won: bool,
) -> None:
    monkeypatch.setattr(object_storage, "_WAITS_S", (0.0, 0.0))
    memory = _Deaf(exclusive=True)
    if there is not None:
        memory.objects["claims/a"] = there
    assert memory_storage(memory).create("claims/a", b"mine") is won
    assert memory.objects["claims/a"] == (there or b"mine")


def test_an_error_that_stays_is_raised_in_the_end(
    memory_storage: Callable[[_Memory], ObjectStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(_Memory):
        def put(self, key: str, content: object, *, create: bool) -> None:
            if key == "claims/a":
                tried.append(key)
                raise StoreUnreachable("503 Slow Down")
            super().put(key, content, create=create)

    tried: list[str] = []
    monkeypatch.setattr(object_storage, "_WAITS_S", (0.0, 0.0))
    with pytest.raises(StoreUnreachable, match="503"):
        memory_storage(Broken(exclusive=True)).create("claims/a", b"mine")
    assert len(tried) == 3
