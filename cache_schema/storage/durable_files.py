"""Files that are whole or absent after a crash: write aside, force to disk, then publish the name."""

import errno
import os
import secrets
from pathlib import Path
from typing import Final

from cache_schema.errors import StoreError

Buffer = bytes | memoryview

TEMPORARY_PREFIX: Final = ".tmp-"
"""Names of files still being written start with this; readers and checks pass them over."""


def create_file(path: Path, content: Buffer, *, sync_name: bool = True) -> bool:
    """Creates a file with the given content, durably, unless the name is taken.

    The content is on disk before the name appears, and a name once given is never replaced, by
    anyone: of two writers exactly one wins. Needs hard links (POSIX ``link``).

    Args:
        path: name of the new file; its folder must exist.
        content: the bytes; written in one call, because the kernel then keeps a large file in large
            pages, from which it is read half as fast again.
        sync_name: whether to force the name to disk too; without it the caller must call
            ``sync_folder`` before relying on the file.

    Returns:
        True if this call created the file, False if the name was taken.

    Raises:
        StoreError: the file system has no hard links.
        OSError: the file cannot be written.
    """
    temporary = _write_aside(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}:
            raise
        raise StoreError(
            f"The file system of {path.parent} has no hard links ({error.strerror}); a store needs "
            f"them to create a file exclusively. Put the store on another file system."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    if sync_name:
        sync_folder(path.parent)
    return True


def replace_file(path: Path, content: Buffer) -> None:
    """Writes a file durably, in place of what bore its name before; readers see the old or the new.

    Args:
        path: name of the file; its folder must exist.
        content: the bytes.
    """
    temporary = _write_aside(path, content)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Forces a folder's list of names to disk: a new name can be lost without it."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def temporary_name(path: Path) -> Path:
    """Returns a name beside ``path`` that no other writer uses, and that marks an unfinished file."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name[:80]}-{secrets.token_hex(8)}")


def file_system_now(folder: Path) -> float:
    """Returns the time by the clock that stamps a folder's files, in seconds since 1970.

    On a network file system that is the server's clock; comparing it with a file's modification
    time needs no agreement between the clocks of machines.
    """
    probe = temporary_name(folder / "clock")
    try:
        probe.touch(exist_ok=False)
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _write_aside(path: Path, content: Buffer) -> Path:
    temporary = temporary_name(path)
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            # A full disk is told by the writing, which knows no name.
            error.filename = os.fspath(path)
        raise
    return temporary


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
