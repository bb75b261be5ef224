"""Reading chunks of shard files straight into the caller's memory, at computed offsets."""

import os
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt

from cache_schema.errors import CorruptStore
from cache_schema.layout import CHECKSUM_BYTES, ShardShape
from cache_schema.shard import Bytes, checksums, decode_index, is_dense
from cache_schema.storage import Storage

# POSIX promises room for 1024 pieces in one vectored read on Linux; a chunk takes two.
_CHUNKS_PER_READ: Final = 512


class ShardFiles:
    """Reads the shards of one array of a store.

    A chunk's bytes go from the page cache into the caller's buffer with one copy: a vectored read
    takes a run of chunks and sets the checksums between them aside. Nothing is kept open, so an
    instance may be used by many threads and after a fork. Which indexes were seen to be sound is
    remembered.

    Args:
        storage: where the store is.
        shape: arithmetic of the array's shards.
        check: whether to compare the crc32c of every chunk that is read.
    """

    def __init__(self, storage: Storage, shape: ShardShape, *, check: bool) -> None:
        # Text, not a Path: joining paths would cost more than opening the file.
        self._root = os.fspath(storage.local_file("") or storage.location)
        self._shape = shape
        self._check = check
        # A byte for every dense shard seen, 4 KB a segment; offsets only of the few that are not.
        self._dense: dict[int, bytearray] = {}
        self._offsets: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def read(
        self, place: str, address: tuple[int, int], chunks: Sequence[int], out: Bytes, clip_id: str
    ) -> None:
        """Reads chunks of one shard.

        Args:
            place: the file below the store's root.
            address: segment, and number of the shard in it.
            chunks: numbers of the chunks, in any order.
            out: uint8 [len(chunks), chunk_bytes], C-contiguous; receives the chunks.
            clip_id: the clip concerned, to be named in errors.

        Raises:
            CorruptStore: the shard or a chunk is missing, short or fails its checksum.
        """
        file = f"{self._root}/{place}"
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fail(file, clip_id, "is missing")
        try:
            starts = self._starts(descriptor, address, chunks, file, clip_id)
            # Unchecked, all checksums may land on the same four bytes.
            stored = np.empty((len(chunks) if self._check else 1, CHECKSUM_BYTES), dtype=np.uint8)
            if not _read_runs(descriptor, starts, out, stored, self._shape.stride):
                self._fail(file, clip_id, "ends before its data do")
        finally:
            os.close(descriptor)
        if self._check:
            wrong = checksums(out) != stored.view("<u4")[:, 0]
            if wrong.any():
                chunk = chunks[int(np.argmax(wrong))]
                self._fail(file, clip_id, f"has a wrong crc32c in chunk {chunk}")

    def _starts(
        self,
        descriptor: int,
        address: tuple[int, int],
        chunks: Sequence[int],
        file: str,
        clip_id: str,
    ) -> Sequence[int]:
        segment, number = address
        dense = self._dense.get(segment)
        if dense is not None and number < len(dense) and dense[number]:
            stride = self._shape.stride
            if isinstance(chunks, range):
                return range(chunks.start * stride, chunks.stop * stride, chunks.step * stride)
            return [chunk * stride for chunk in chunks]
        offsets = self._offsets.get(address)
        if offsets is None:
            offsets = self._read_index(descriptor, file, clip_id)
            if is_dense(offsets, self._shape):
                self._remember_dense(segment, number)
            else:
                self._offsets[address] = offsets
        starts = [int(offsets[chunk]) for chunk in chunks]
        if min(starts, default=0) < 0:
            self._fail(file, clip_id, f"lacks chunk {chunks[starts.index(-1)]}")
        return starts

    def _read_index(self, descriptor: int, file: str, clip_id: str) -> npt.NDArray[np.int64]:
        size = os.fstat(descriptor).st_size
        start = size - self._shape.index_bytes
        try:
            if start < 0:
                raise ValueError(f"it has {size} bytes, fewer than its index alone")  # noqa: TRY301
            index = os.pread(descriptor, self._shape.index_bytes, start)
            return decode_index(index, self._shape, size)
        except ValueError as error:
            self._fail(file, clip_id, f"is damaged: {error}")

    def _remember_dense(self, segment: int, number: int) -> None:
        flags = self._dense.get(segment, bytearray())
        if number >= len(flags):
            # A longer copy replaces the old one: a thread that still holds the old one loses at
            # most a mark, and reads one index again.
            flags = flags + bytes(max(4096, number + 1) - len(flags))
            self._dense[segment] = flags
        flags[number] = 1

    def _fail(self, file: str, clip_id: str, what: str) -> NoReturn:
        raise CorruptStore(
            f"{file}, which holds clip {clip_id!r}, {what}. Restore the file from a backup, or extract "
            f"the clip into a new store; `verify_store` lists everything that is damaged.",
            clip_id=clip_id,
            file=file,
        )


def _read_runs(
    descriptor: int, starts: Sequence[int], out: Bytes, stored: Bytes, stride: int
) -> bool:
    """Reads chunks into the rows of ``out`` and their checksums into those of ``stored``.

    Chunks that follow one another in the file are read together. Returns False where the file ends
    too early.
    """
    data, size = out.reshape(-1).data, out.shape[-1]
    sums = (
        [row.data for row in stored] if len(stored) == len(starts) else [stored.data] * len(starts)
    )
    for first, last in _runs(starts, stride):
        pieces = []
        for row in range(first, last):
            pieces.append(data[row * size : (row + 1) * size])
            pieces.append(sums[row])
        read = os.preadv(descriptor, pieces, starts[first])
        if read != (last - first) * stride and not _read_slowly(descriptor, pieces, starts[first]):
            return False
    return True


def _runs(starts: Sequence[int], stride: int) -> Iterator[tuple[int, int]]:
    """Cuts a list of offsets into runs [first, last) that one vectored read can take."""
    adjacent = isinstance(starts, range) and starts.step == stride
    first = 0
    while first < len(starts):
        limit = min(first + _CHUNKS_PER_READ, len(starts))
        last = limit if adjacent else first + 1
        while last < limit and starts[last] == starts[last - 1] + stride:
            last += 1
        yield first, last
        first = last


def _read_slowly(descriptor: int, pieces: Sequence[memoryview], start: int) -> bool:
    """Reads piece by piece, for file systems that give less than was asked for at a time."""
    for piece in pieces:
        position = 0
        while position < len(piece):
            count = os.preadv(descriptor, [piece[position:]], start)
            if count == 0:
                return False
            position += count
            start += count
    return True
