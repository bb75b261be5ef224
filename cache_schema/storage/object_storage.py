"""A store's files in an object store or, to be read, on a web server."""

import contextlib
import io
import os
import random
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Final

from cache_schema.errors import InputError, StoreDenied, StoreError, StoreUnreachable
from cache_schema.storage.durable_files import TEMPORARY_PREFIX, Buffer
from cache_schema.storage.object_client import (
    Fetched,
    ObjectClient,
    ObstoreClient,
    Piece,
    obstore_is_forked,
)
from cache_schema.storage.object_service import ServiceClient
from cache_schema.storage.storage import StoredFile

_SCHEMES: Final = ("s3", "gs", "az", "http", "https")
_URL: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>[^?#@]+)")
_CLOCK_KEPT_S: Final = 300.0
_WAITS_S: Final = (0.2, 0.4, 0.8, 1.6, 3.2)


class UnlistableStore(StoreError, io.UnsupportedOperation):  # noqa: N818 -- as in errors.py
    """The files of a store cannot be listed where it is."""


class ObjectStorage:
    """A ``Storage`` in an object store.

    It travels as its URL, and asks the server through a client that is made at the first request of
    each process. An object appears whole or not at all, so there are no temporary files but the
    probe of the server's clock.

    Args:
        url: ``s3://bucket/folder``, ``gs://``, ``az://account/container/folder``, or, read only,
            ``http://`` and ``https://``.

    Raises:
        InputError: the URL is of another kind, or holds credentials.
    """

    def __init__(self, url: str) -> None:
        match = _URL.fullmatch(url)
        if match is None or match["scheme"] not in _SCHEMES:
            shown = url.partition("?")[0].rpartition("@")[2]
            raise InputError(
                f"{shown!r} is no URL of a store. Give {', '.join(f'{s}://' for s in _SCHEMES)} and a "
                f"place, without user, query or fragment: credentials come from the environment."
            )
        self._url = url.rstrip("/")
        self._read_only = match["scheme"].startswith("http")
        self._made: tuple[int, ObjectClient] | None = None
        self._clock: tuple[float, float] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return ObjectStorage, (self._url,)

    @property
    def location(self) -> str:
        """URL of the store."""
        return self._url

    @property
    def client(self) -> ObjectClient:
        """What makes the requests of this process."""
        pid, made = os.getpid(), self._made
        if made is None or made[0] != pid:
            client = ServiceClient(self._url) if obstore_is_forked() else ObstoreClient(self._url)
            self._made = made = (pid, client)
        return made[1]

    def name(self, key: str) -> str:
        """Returns the URL of a file, for messages."""
        return f"{self._url}/{key}"

    def local_file(self, key: str) -> None:
        """Returns None: there are no files here."""

    def read(self, key: str) -> bytes:
        """Returns a file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return bytes(self._fetch_all([Piece(key)])[0].content)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Returns pieces (start, size) of a file, shorter where the file ends.

        Raises:
            FileNotFoundError: there is no such file.
        """
        pieces = [Piece(key, start, size) for start, size in ranges]
        return [bytes(part.content) for part in self._fetch_all(pieces)]

    def fetch(self, pieces: Sequence[Piece]) -> list[Fetched | OSError]:
        """Reads pieces of any files side by side, each ending in its content or its error."""
        return self.client.read(pieces)

    def size(self, key: str) -> int | None:
        """Returns a file's size in bytes, None where there is no such file."""
        try:
            return self.client.head(key).size
        except FileNotFoundError:
            return None

    def exists(self, key: str) -> bool:
        """Tells whether there is such a file."""
        return self.size(key) is not None

    def age_s(self, key: str) -> float:
        """Returns the seconds since a file was written or touched, by the server's clock.

        Raises:
            FileNotFoundError: there is no such file.
        """
        modified = self.client.head(key).modified
        return self._now() - modified

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Returns the names of the finished files in a folder; none where it is absent."""
        self._require_listing()
        # A listing that starts in the middle has to go deep; folders that are asked so are flat.
        found = self.client.list(folder, deep=bool(after), after=f"{folder}/{after}")
        names = (info.key.removeprefix(f"{folder}/") for info in found)
        return [name for name in names if "/" not in name and not name.startswith(TEMPORARY_PREFIX)]

    def walk(self) -> Iterator[StoredFile]:
        """Lists all files of the store."""
        self._require_listing()
        now = self._now()
        for info in self.client.list("", deep=True):
            yield StoredFile(info.key, info.size, now - info.modified)

    def create(self, key: str, content: Buffer, *, sync_name: bool = True) -> bool:  # noqa: ARG002
        """Creates a file by a conditional PUT (``If-None-Match: *``), unless the name is taken.

        A request whose answer was lost may have created the file: the name is then taken, by the
        same bytes. So True means that this call, or another one with the same bytes, created it.
        """
        self._require_exclusive()
        octets = memoryview(content).cast("B")  # Some buffers count in other items.
        for wait_s in _WAITS_S:
            try:
                return self._create_once(key, octets)
            except StoreDenied:
                raise
            except StoreUnreachable:
                # obstore repeats what is certain not to have arrived; here the rest may be too.
                time.sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311
        return self._create_once(key, octets)

    def replace(self, key: str, content: Buffer) -> None:
        """Writes a file in place of an older one."""
        self._require_writable()
        self.client.put(key, memoryview(content).cast("B"), create=False)

    def touch(self, key: str) -> None:
        """Makes a file's age zero by writing it again; for its only writer.

        Raises:
            FileNotFoundError: there is no such file.
        """
        self.replace(key, self.read(key))

    def delete(self, key: str) -> None:
        """Deletes a file; no error where there is none."""
        self._require_writable()
        self.client.delete(key)

    def sync(self, folder: str) -> None:
        """Does nothing: a PUT that was answered is durable."""

    def _create_once(self, key: str, content: memoryview) -> bool:
        try:
            self.client.put(key, content, create=True)
        except FileExistsError:
            return self.size(key) == len(content) and self.read(key) == content
        return True

    def _fetch_all(self, pieces: Sequence[Piece]) -> list[Fetched]:
        parts = []
        for part in self.fetch(pieces):
            if isinstance(part, OSError):
                raise part
            parts.append(part)
        return parts

    def _now(self) -> float:
        """Returns the server's time; its clock is looked at every five minutes."""
        if self._read_only:
            return time.time()
        clock = self._clock
        if clock is None or time.monotonic() - clock[0] > _CLOCK_KEPT_S:
            try:
                clock = self._probe()
            except StoreUnreachable:
                # Whoever cannot write ends no claim and deletes no file: ages are for show then.
                return time.time()
        asked, told = clock
        return told + time.monotonic() - asked

    def _probe(self) -> tuple[float, float]:
        """Reads the server's clock off a new object, and sees that it is created exclusively.

        Returns:
            The monotonic clock of this machine, and the server's time then.
        """
        self._require_writable()
        key = f"{TEMPORARY_PREFIX}clock-{secrets.token_hex(8)}"
        client = self.client
        client.put(key, b"", create=True)
        try:
            self._clock = clock = (time.monotonic(), client.head(key).modified)
            client.put(key, b"", create=True)
        except FileExistsError:
            return clock
        finally:
            # Some writers may not delete; a probe that stays is an unfinished file like any other.
            with contextlib.suppress(StoreDenied):
                client.delete(key)
        raise StoreError(
            f"The server of {self._url} lets a conditional PUT (If-None-Match: *) replace an object; "
            f"two writers could overwrite each other. Put the store on another server."
        )

    def _require_exclusive(self) -> None:
        if self._clock is None:
            self._probe()

    def _require_writable(self) -> None:
        if self._read_only:
            raise StoreError(
                f"{self._url} can only be read. To write, give the store's s3://, gs:// or az:// URL."
            )

    def _require_listing(self) -> None:
        if self._read_only:
            raise UnlistableStore(
                f"{self._url} cannot be listed over HTTP. Give the store's s3://, gs:// or az:// URL."
            )
