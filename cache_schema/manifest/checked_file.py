"""A stored file read through checksums of its blocks, so that no library sees a changed byte."""

import io
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from cache_schema.errors import CorruptStore
from cache_schema.manifest.part_index import BLOCK_BYTES, block_checksums
from cache_schema.storage.storage import Storage


class CheckedFile(io.RawIOBase):
    """A file object for reading; every block of 64 KiB that is touched is compared first.

    Parquet's own checksums cover the data of its pages, but neither their headers nor the footer.

    Args:
        storage: where the file lies.
        key: the file.
        size: its length in bytes.
        checksums: uint32 [blocks], the crc32c of every block.
    """

    def __init__(
        self, storage: Storage, key: str, size: int, checksums: npt.NDArray[np.uint32]
    ) -> None:
        super().__init__()
        self._storage = storage
        self._key = key
        self._size = size
        self._checksums = checksums
        self._place = 0

    def readable(self) -> bool:
        """Tells that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tells that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Returns the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the place of the next byte, and returns it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = base + offset
        return self._place

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads bytes from the present place.

        Raises:
            CorruptStore: the file is missing or short, or a block is not what was written.
        """
        end = self._size if size is None or size < 0 else min(self._place + size, self._size)
        if self._place >= end:
            return b""
        first, last = self._place // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        start, length = first * BLOCK_BYTES, min(last * BLOCK_BYTES, self._size)
        content = self._blocks(start, length - start)
        wrong = np.flatnonzero(block_checksums(content) != self._checksums[first:last])
        if len(wrong):
            self._fail(f"fails its checksum at byte {(first + int(wrong[0])) * BLOCK_BYTES}")
        piece = content[self._place - start : end - start]
        self._place = end
        return piece

    def _blocks(self, start: int, length: int) -> bytes:
        try:
            (content,) = self._storage.read_ranges(self._key, [(start, length)])
        except FileNotFoundError:
            self._fail("is missing")
        if len(content) != length:
            self._fail(f"ends before its {self._size} bytes do")
        return content

    def _fail(self, what: str) -> NoReturn:
        file = self._storage.name(self._key)
        raise CorruptStore(f"{file} {what}; restore it from a backup.", file=file)
