"""The video file before any decoder sees it: a regular file, inside its root, that is no playlist."""

import errno
import hashlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extract.refusal import ClipRefused

_HEAD_BYTES: Final = 256
_READ_BYTES: Final = 1 << 20
_RETRIES: Final = 3
_PASSING_ERRORS: Final = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN})

# Texts that make FFmpeg open other files or addresses. The list of containers in probe.py keeps
# them out already; looking at the first bytes gives the user the true reason.
_PLAYLIST_HEADS: Final = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"[playlist]", b"RIFFREF")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFile:
    """A file that may be handed to a decoder."""

    path: Path
    """Absolute, with links followed."""
    size: int
    """Bytes."""
    digest: str
    """BLAKE2b-128 of the content, 32 hexadecimal digits."""


def read_source(path: Path, root: Path | None = None) -> SourceFile:
    """Checks and digests a video file without decoding it.

    Reads that fail for a passing reason (EIO, ESTALE, time-outs of network file systems) are
    tried three times.

    Args:
        path: the file as the clip names it.
        root: folder that must hold the file once links are followed; None allows any place.

    Raises:
        ClipRefused: ``missing_file``, ``outside_root``, ``not_regular_file``, ``not_a_video``,
            ``playlist`` or ``io``.
    """
    for attempt in range(1, _RETRIES + 1):
        try:
            return _read_once(path, root)
        except OSError as error:
            if error.errno not in _PASSING_ERRORS or attempt == _RETRIES:
                detail = f"reading {path.name} failed: {error.strerror or error}"
                raise ClipRefused("io", detail) from error
            time.sleep(0.2 * attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _read_once(path: Path, root: Path | None) -> SourceFile:
    try:
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ClipRefused("missing_file", f"there is no file {path.name}") from error
    except (ValueError, RuntimeError) as error:
        raise ClipRefused("missing_file", "the path cannot name a file") from error
    if root is not None and not real.is_relative_to(root.resolve()):
        detail = f"{path.name} leads, links followed, outside the data set's root"
        raise ClipRefused("outside_root", detail)
    # Non-blocking: opening a FIFO for reading would otherwise wait for a writer, for ever.
    descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ClipRefused("not_regular_file", f"{path.name} is not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size == 0:
            raise ClipRefused("not_a_video", f"{path.name} is empty")
        _refuse_playlist(path.name, file.read(_HEAD_BYTES))
        file.seek(0)
        digest = hashlib.blake2b(digest_size=16)
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return SourceFile(path=real, size=status.st_size, digest=digest.hexdigest())


def _refuse_playlist(name: str, head: bytes) -> None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(_PLAYLIST_HEADS):
        detail = f"{name} is a text that names other files; only video files are read"
        raise ClipRefused("playlist", detail)
