"""The video file before any decoder sees it: a regular file, inside its root, that is no playlist."""

import errno
import hashlib
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from extract.recent_files import FileMark, RecentFiles
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
    mark: FileMark
    """What changes when the content does."""

    def require_unchanged(self) -> None:
        """Looks whether the file that was decoded is the one that was digested.

        Raises:
            ClipRefused: ``io``: it was written to, replaced or removed meanwhile.
        """
        try:
            mark = _mark_of(self.path.stat())
        except OSError:
            mark = None
        if mark != self.mark:
            raise ClipRefused("io", f"{self.path.name} changed while it was read; try it again")


class SourceReader:
    """Checks and digests files, and remembers the digests of the last ones."""

    def __init__(self) -> None:
        self._digests: RecentFiles[str] = RecentFiles()

    def read(
        self, path: Path, root: Path | None = None, extra_roots: Sequence[Path] = ()
    ) -> SourceFile:
        """Checks and digests a video file without decoding it.

        Reads that fail for a passing reason (EIO, ESTALE, time-outs of network file systems) are
        tried three times.

        Args:
            path: the file as the clip names it.
            root: folder that must hold the file once links are followed; None allows any place.
            extra_roots: further folders that may hold it.

        Raises:
            ClipRefused: ``missing_file``, ``outside_root``, ``not_regular_file``, ``not_a_video``,
                ``playlist`` or ``io``.
        """
        for attempt in range(1, _RETRIES + 1):
            try:
                return self._read_once(path, root, extra_roots)
            except OSError as error:
                if error.errno not in _PASSING_ERRORS or attempt == _RETRIES:
                    detail = f"reading {path.name} failed: {error.strerror or error}"
                    raise ClipRefused("io", detail) from error
                time.sleep(0.2 * attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _read_once(self, path: Path, root: Path | None, extra_roots: Sequence[Path]) -> SourceFile:
        real = _real_path(path, root, extra_roots)
        # Looked at before it is opened: opening some devices does something.
        if not stat.S_ISREG(real.stat().st_mode):
            raise ClipRefused("not_regular_file", f"{path.name} is not a regular file")
        # Non-blocking: a FIFO that has taken the file's place would wait for a writer, for ever.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ClipRefused("not_regular_file", f"{path.name} is not a regular file")
            if status.st_size == 0:
                raise ClipRefused("not_a_video", f"{path.name} is empty")
            mark = _mark_of(status)
            digest = self._digests.of(mark, lambda: _digest_of(path.name, file))
        return SourceFile(path=real, size=status.st_size, digest=digest, mark=mark)


def _real_path(path: Path, root: Path | None, extra_roots: Sequence[Path]) -> Path:
    try:
        real = path.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ClipRefused("missing_file", f"there is no file {path.name}") from error
    except (ValueError, RuntimeError) as error:
        raise ClipRefused("missing_file", "the path cannot name a file") from error
    if root is not None and not any(
        real.is_relative_to(allowed.resolve()) for allowed in (root, *extra_roots)
    ):
        detail = (
            f"{path.name} leads, links followed, outside the data set's folder; --allow-root FOLDER "
            "admits another folder, --follow-links any"
        )
        raise ClipRefused("outside_root", detail)
    return real


def _digest_of(name: str, file: BinaryIO) -> str:
    _refuse_playlist(name, file.read(_HEAD_BYTES))
    file.seek(0)
    digest = hashlib.blake2b(digest_size=16)
    while block := file.read(_READ_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _mark_of(status: os.stat_result) -> FileMark:
    return (
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    )  # fmt: skip


def _refuse_playlist(name: str, head: bytes) -> None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(_PLAYLIST_HEADS):
        detail = f"{name} is a text that names other files; only video files are read"
        raise ClipRefused("playlist", detail)
