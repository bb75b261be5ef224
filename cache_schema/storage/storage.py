"""Where the bytes of a store lie: one interface over a folder and an object store."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from cache_schema.errors import InputError
from cache_schema.storage.durable_files import Buffer

_LOST_URL: Final = re.compile("(s3|gs|az|https?):/")


class StoredFile(NamedTuple):
    """One file below a storage's root."""

    key: str
    """Its place below the root, with ``/`` between the parts."""
    size: int
    age_s: float
    """Seconds since it was written or touched, by the storage's own clock."""


class Storage(Protocol):
    """A tree of small, whole files, each of which appears at once and durably, or not at all.

    Keys are relative places such as ``commits/000000.000017.json``. Folders need not be made.
    Threads may share a storage; it survives a fork.
    """

    @property
    def location(self) -> str:
        """Path or URL of the root, for people and for opening it again."""

    def name(self, key: str) -> str:
        """Returns the full name of a key, for messages."""

    def read(self, key: str) -> bytes:
        """Returns a file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def size(self, key: str) -> int | None:
        """Returns a file's size in bytes, None where there is no such file."""

    def exists(self, key: str) -> bool:
        """Tells whether there is such a file."""

    def age_s(self, key: str) -> float:
        """Returns the seconds since a file was written or touched, by the storage's own clock.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Returns pieces of a file.

        Args:
            key: the file.
            ranges: first byte and length of each piece; a piece is shorter where the file ends.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Returns the names of the finished files directly in a folder; none where it is absent.

        Args:
            folder: the folder.
            after: only names that sort behind this one are wanted; an object store then lists no others.
        """

    def walk(self) -> Iterator[StoredFile]:
        """Lists all files below the root, unfinished ones included, in no particular order."""

    def create(self, key: str, content: Buffer, *, sync_name: bool = True) -> bool:
        """Creates a file durably, unless the name is taken; of two creators exactly one wins.

        Args:
            key: place of the file.
            content: the bytes.
            sync_name: whether the name, too, must survive a crash of the machine; without it the
                caller must call ``sync`` of the folder before relying on the file.

        Returns:
            True if this call created the file, False if the name was taken.
        """

    def replace(self, key: str, content: Buffer) -> None:
        """Writes a file durably, in place of an older one; readers see the old or the new."""

    def touch(self, key: str) -> None:
        """Makes a file's age zero.

        Raises:
            FileNotFoundError: there is no such file.
        """

    def delete(self, key: str) -> None:
        """Deletes a file durably; no error where there is none."""

    def sync(self, folder: str) -> None:
        """Makes the names of a folder's files durable."""

    def local_file(self, key: str) -> Path | None:
        """Returns the file itself, to be mapped or read in part; None on an object store."""


def open_storage(location: str | os.PathLike[str]) -> Storage:
    """Returns the storage at a location; nothing is read or made there.

    Args:
        location: path of a folder, or a URL as text: ``s3://bucket/folder``, ``gs://``, ``az://``,
            or, to be read only, ``http://`` and ``https://``.

    Raises:
        InputError: the URL is of another kind, or holds credentials.
    """
    # Imported here: the implementations need the types above.
    from cache_schema.storage.local_storage import LocalStorage

    if is_url(location):
        from cache_schema.storage.object_storage import ObjectStorage

        return ObjectStorage(str(location))
    if _LOST_URL.match(os.fspath(location)):
        raise InputError(
            f"{os.fspath(location)!r} was a URL before it was made a path, which took one of its "
            f"slashes. Give it as text."
        )
    return LocalStorage(Path(location))


def is_url(location: str | os.PathLike[str]) -> bool:
    """Tells whether a location is a URL, as opposed to a path."""
    return isinstance(location, str) and "://" in location


def absolute_location(location: str | os.PathLike[str]) -> str:
    """Returns a location that means the same in another working directory."""
    return str(location) if is_url(location) else os.path.abspath(location)  # noqa: PTH100
