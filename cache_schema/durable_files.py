"""Files that are whole or absent after a crash: write aside, force to disk, then publish the name."""

import os
import secrets
from pathlib import Path
from typing import Final

TEMPORARY_PREFIX: Final = ".tmp-"
"""Names of files still being written start with this; readers and checks pass them over."""


def create_file(path: Path, *parts: bytes) -> bool:
    """Creates a file with the given content, durably, unless the name is taken.

    The content is on disk before the name appears, and a name once given is never replaced, by
    anyone: of two writers exactly one wins. Needs hard links (POSIX ``link``).

    Args:
        path: name of the new file; its folder must exist.
        parts: the content, in order.

    Returns:
        True if this call created the file, False if the name was taken.
    """
    temporary = _write_aside(path, parts)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def replace_file(path: Path, *parts: bytes) -> None:
    """Writes a file durably, in place of what bore its name before; readers see the old or the new.

    Args:
        path: name of the file; its folder must exist.
        parts: the content, in order.
    """
    temporary = _write_aside(path, parts)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Forces a folder's list of names to disk: a new name can be lost without it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: Path) -> Path:
    """Returns a name beside ``path`` that no other writer uses, and that marks an unfinished file."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name[:80]}-{secrets.token_hex(8)}")


def _write_aside(path: Path, parts: tuple[bytes, ...]) -> Path:
    temporary = temporary_name(path)
    try:
        with temporary.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
