"""A store's files in a folder of a POSIX file system."""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cache_schema.storage.durable_files import (
    TEMPORARY_PREFIX,
    Buffer,
    create_file,
    file_system_now,
    replace_file,
    sync_folder,
)
from cache_schema.storage.storage import StoredFile


class LocalStorage:
    """A ``Storage`` in a folder. Needs hard links, and ``rename`` and ``fsync`` that hold.

    Args:
        root: the folder; need not be there yet.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def location(self) -> str:
        """Path of the folder."""
        return str(self._root)

    def name(self, key: str) -> str:
        """Returns the path of a file, for messages."""
        return str(self._root / key)

    def local_file(self, key: str) -> Path:
        """Returns the path of a file."""
        return self._root / key

    def read(self, key: str) -> bytes:
        """Returns a file's content.

        Raises:
            FileNotFoundError: there is no such file.
        """
        try:
            return (self._root / key).read_bytes()
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error

    def size(self, key: str) -> int | None:
        """Returns a file's size in bytes, None where there is no such file."""
        try:
            return (self._root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, key: str) -> bool:
        """Tells whether there is such a file."""
        return (self._root / key).exists()

    def age_s(self, key: str) -> float:
        """Returns the seconds since a file was written or touched, by the file system's clock.

        Raises:
            FileNotFoundError: there is no such file.
        """
        written = (self._root / key).stat().st_mtime
        return self._now() - written

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Returns pieces of a file, shorter where the file ends.

        Raises:
            FileNotFoundError: there is no such file.
        """
        try:
            descriptor = os.open(f"{self._root}/{key}", os.O_RDONLY | os.O_CLOEXEC)
        except NotADirectoryError as error:
            raise FileNotFoundError(*error.args) from error
        try:
            pieces = [os.pread(descriptor, size, start) for start, size in ranges]
            for place, (start, size) in enumerate(ranges):
                if len(pieces[place]) < size:
                    pieces[place] = _read_on(descriptor, pieces[place], start, size)
        finally:
            os.close(descriptor)
        return pieces

    def names(self, folder: str, *, after: str = "") -> list[str]:
        """Returns the names of the finished files in a folder; none where it is absent."""
        try:
            with os.scandir(self._root / folder) as entries:
                return [
                    entry.name
                    for entry in entries
                    if entry.name > after
                    and entry.is_file()
                    and not entry.name.startswith(TEMPORARY_PREFIX)
                ]
        except FileNotFoundError:
            return []

    def walk(self) -> Iterator[StoredFile]:
        """Lists all files below the folder, unfinished ones included.

        A root that is itself a file is listed as ``.``.
        """
        if self._root.is_dir():
            yield from self._walk("", self._now())
        elif self._root.is_file():
            status = self._root.stat()
            yield StoredFile(".", status.st_size, time.time() - status.st_mtime)

    def create(self, key: str, content: Buffer, *, sync_name: bool = True) -> bool:
        """Creates a file durably, unless the name is taken; see ``durable_files.create_file``."""
        path = self._root / key
        try:
            return create_file(path, content, sync_name=sync_name)
        except FileNotFoundError:
            self._make_folder(key)
            return create_file(path, content, sync_name=sync_name)

    def replace(self, key: str, content: Buffer) -> None:
        """Writes a file durably, in place of an older one."""
        path = self._root / key
        try:
            replace_file(path, content)
        except FileNotFoundError:
            self._make_folder(key)
            replace_file(path, content)

    def touch(self, key: str) -> None:
        """Makes a file's age zero, by the file system's clock.

        Raises:
            FileNotFoundError: there is no such file.
        """
        os.utime(self._root / key)

    def delete(self, key: str) -> None:
        """Deletes a file durably; no error where there is none."""
        path = self._root / key
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)

    def sync(self, folder: str) -> None:
        """Forces the names of a folder's files to disk."""
        sync_folder(self._root / folder)

    def _make_folder(self, key: str) -> None:
        """Makes the folders of a file, durably.

        Only a file directly in the root makes the root: a writer whose store was deleted fails,
        and does not leave a folder of shards without metadata behind.
        """
        missing = []
        folder = (self._root / key).parent
        if folder != self._root and not self._root.is_dir():
            raise FileNotFoundError(f"The folder {self._root} is gone, so {key} cannot be written.")
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)

    def _walk(self, folder: str, now: float) -> Iterator[StoredFile]:
        try:
            with os.scandir(self._root / folder) as scan:
                entries = list(scan)
        except FileNotFoundError:
            return
        for entry in entries:
            key = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(key, now)
                continue
            # Others delete their temporary files while we walk.
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield StoredFile(key, status.st_size, now - status.st_mtime)

    def _now(self) -> float:
        try:
            return file_system_now(self._root)
        except OSError:
            # Whoever cannot write there ends no claim and deletes no file: ages are for show then.
            return time.time()


def _read_on(descriptor: int, piece: bytes, start: int, size: int) -> bytes:
    # Network file systems may give less than was asked for; only an empty read means the end.
    while len(piece) < size:
        more = os.pread(descriptor, size - len(piece), start + len(piece))
        if not more:
            break
        piece += more
    return piece
