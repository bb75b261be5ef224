"""Reading chunks of shard files straight into the caller's memory, at computed offsets."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from cache_schema.errors import CorruptStore, InputError
from cache_schema.layout import CHECKSUM_BYTES, ShardShape
from cache_schema.shards.direct_reads import read_directly
from cache_schema.shards.shard import Bytes, checksums, decode_index, is_dense

Address = tuple[int, int]
"""Segment, and number of a shard in it."""

# POSIX promises room for 1024 pieces in one vectored read on Linux; a chunk takes two.
_CHUNKS_PER_READ: Final = 512


class ShardRead(NamedTuple):
    """Chunks of one shard that are to be read."""

    place: str
    """The file below the store's root."""
    address: Address
    chunks: Sequence[int]
    """Numbers of the chunks, in any order."""
    out: Bytes
    """uint8 [len(chunks), chunk_bytes], C-contiguous; receives the chunks."""
    clip_id: str
    """The clip concerned, to be named in errors."""


class ShardReader(Protocol):
    """Reads the shards of one array of a store; threads may share it, and it survives a fork."""

    @property
    def group(self) -> int:
        """How many clips it is best given at a time by those who need memory for each."""

    def read_all(self, reads: Sequence[ShardRead]) -> None:
        """Reads chunks of some shards.

        Raises:
            CorruptStore: a shard or a chunk is missing, short or fails its checksum.
        """


class SeenIndexes:
    """Which indexes of an array's shards were seen to be sound, and where their chunks start."""

    def __init__(self) -> None:
        # A byte for every dense shard seen, 4 KB a segment; offsets only of the few that are not.
        self._dense: dict[int, bytearray] = {}
        self._offsets: dict[Address, npt.NDArray[np.int64]] = {}

    def is_dense(self, address: Address) -> bool:
        """Tells whether a shard's index was seen, and has chunk k at k strides."""
        dense = self._dense.get(address[0])
        return dense is not None and address[1] < len(dense) and bool(dense[address[1]])

    def offsets(self, address: Address) -> npt.NDArray[np.int64] | None:
        """Returns where the chunks of a shard start, None where it is dense or was not seen."""
        return self._offsets.get(address)

    def is_known(self, address: Address) -> bool:
        """Tells whether a shard's index was seen."""
        return address in self._offsets or self.is_dense(address)

    def add(self, address: Address, offsets: npt.NDArray[np.int64], shape: ShardShape) -> None:
        """Remembers a sound index."""
        if not is_dense(offsets, shape):
            self._offsets[address] = offsets
            return
        segment, number = address
        flags = self._dense.get(segment, bytearray())
        if number >= len(flags):
            # A longer copy replaces the old one: a thread that still holds the old one loses at
            # most a mark, and reads one index again.
            flags = flags + bytes(max(4096, number + 1) - len(flags))
            self._dense[segment] = flags
        flags[number] = 1


class ShardFiles:
    """A ``ShardReader`` of files in a folder.

    A chunk's bytes go from the page cache into the caller's buffer with one copy: a vectored read
    takes a run of chunks and sets the checksums between them aside. Nothing is kept open, so an
    instance may be used by many threads and after a fork. Which indexes were seen to be sound is
    remembered.

    Args:
        root: the folder.
        shape: arithmetic of the array's shards.
        check: whether to compare the crc32c of every chunk that is read.
        direct: whether to read around the page cache, with a copy more but without filling it.
    """

    group = 1

    def __init__(self, root: Path, shape: ShardShape, *, check: bool, direct: bool = False) -> None:
        # Text, not a Path: joining paths would cost more than opening the file.
        self._root = os.fspath(root)
        self._shape = shape
        self._check = check
        self._direct = direct
        self._flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_DIRECT if direct else 0)
        self._seen = SeenIndexes()

    def read_all(self, reads: Sequence[ShardRead]) -> None:
        """Reads chunks of some shards, one after the other."""
        for read in reads:
            self.read(*read)

    def read(
        self, place: str, address: Address, chunks: Sequence[int], out: Bytes, clip_id: str
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
            InputError: the file system cannot read around the page cache.
        """
        file = f"{self._root}/{place}"
        descriptor = self._open(file, clip_id)
        try:
            starts = self._starts(descriptor, address, chunks, file, clip_id)
            # Unchecked, all checksums may land on the same four bytes.
            stored = np.empty((len(chunks) if self._check else 1, CHECKSUM_BYTES), dtype=np.uint8)
            rows = list(out)
            if self._direct:
                whole = _read_runs_directly(descriptor, starts, out, stored, self._shape.stride)
            else:
                whole = _read_runs(descriptor, starts, rows, stored, self._shape.stride)
            if not whole:
                fail(file, clip_id, "ends before its data do")
        finally:
            os.close(descriptor)
        if self._check:
            wrong = checksums(rows) != stored.view("<u4")[:, 0]
            if wrong.any():
                chunk = chunks[int(np.argmax(wrong))]
                fail(file, clip_id, f"has a wrong crc32c in chunk {chunk}")

    def _open(self, file: str, clip_id: str) -> int:
        try:
            return os.open(file, self._flags)
        except FileNotFoundError:
            fail(file, clip_id, "is missing")
        except OSError as error:
            if self._direct and error.errno == errno.EINVAL:
                raise InputError(
                    f"The file system of {self._root} cannot read around the page cache (O_DIRECT). "
                    f"Open the store without `direct`."
                ) from error
            raise

    def _starts(
        self,
        descriptor: int,
        address: Address,
        chunks: Sequence[int],
        file: str,
        clip_id: str,
    ) -> Sequence[int]:
        if self._seen.is_dense(address):
            stride = self._shape.stride
            if isinstance(chunks, range):
                return range(chunks.start * stride, chunks.stop * stride, chunks.step * stride)
            return [chunk * stride for chunk in chunks]
        offsets = self._seen.offsets(address)
        if offsets is None:
            offsets = self._read_index(descriptor, file, clip_id)
            self._seen.add(address, offsets, self._shape)
        starts = [int(offsets[chunk]) for chunk in chunks]
        if min(starts, default=0) < 0:
            fail(file, clip_id, f"lacks chunk {chunks[starts.index(-1)]}")
        return starts

    def _read_index(self, descriptor: int, file: str, clip_id: str) -> npt.NDArray[np.int64]:
        size = os.fstat(descriptor).st_size
        start = size - self._shape.index_bytes
        try:
            if start < 0:
                raise ValueError(f"it has {size} bytes, fewer than its index alone")  # noqa: TRY301
            if self._direct:
                index = bytes(read_directly(descriptor, start, self._shape.index_bytes))
            else:
                index = os.pread(descriptor, self._shape.index_bytes, start)
            return decode_index(index, self._shape, size)
        except ValueError as error:
            fail(file, clip_id, f"is damaged: {error}")


def fail(file: str, clip_id: str, what: str) -> NoReturn:
    """Reports a damaged shard file.

    Raises:
        CorruptStore: always.
    """
    raise CorruptStore(
        f"{file}, which holds clip {clip_id!r}, {what}. Restore the file from a backup, or extract "
        f"the clip into a new store; `verify_store` lists everything that is damaged.",
        clip_id=clip_id,
        file=file,
    )


def _read_runs(
    descriptor: int, starts: Sequence[int], rows: Sequence[Bytes], stored: Bytes, stride: int
) -> bool:
    """Reads chunks into ``rows`` and their checksums into the rows of ``stored``.

    Chunks that follow one another in the file are read together. Returns False where the file ends
    too early.
    """
    # Rows of arrays, made by the dozen: slices of memory cost five times as much to make.
    pieces = [stored[0]] * (2 * len(rows)) if rows else []
    pieces[::2] = rows
    if len(stored) == len(rows):
        pieces[1::2] = stored
    for first, last in _runs(starts, stride):
        some = pieces[2 * first : 2 * last]
        read = os.preadv(descriptor, some, starts[first])
        if read != (last - first) * stride and not _read_slowly(descriptor, some, starts[first]):
            return False
    return True


def _read_runs_directly(
    descriptor: int, starts: Sequence[int], out: Bytes, stored: Bytes, stride: int
) -> bool:
    """Does as ``_read_runs`` with a file that is read around the page cache."""
    for first, last in _runs(starts, stride):
        span = read_directly(descriptor, starts[first], (last - first) * stride)
        if len(span) != (last - first) * stride:
            return False
        chunks = np.frombuffer(span, np.uint8).reshape(-1, stride)
        out[first:last] = chunks[:, : out.shape[1]]
        if len(stored) == len(out):
            stored[first:last] = chunks[:, out.shape[1] :]
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


def _read_slowly(descriptor: int, pieces: Sequence[Bytes], start: int) -> bool:
    """Reads piece by piece, for file systems that give less than was asked for at a time."""
    for piece in pieces:
        position = 0
        while position < len(piece):
            count = os.preadv(descriptor, [piece[position:].data], start)
            if count == 0:
                return False
            position += count
            start += count
    return True
