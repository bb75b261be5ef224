"""Reading chunks of shard files from an object store: few requests, side by side, checked as locally."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt

from cache_schema.layout import CHECKSUM_BYTES, ShardShape
from cache_schema.shards.shard import Bytes, checksums, decode_index
from cache_schema.shards.shard_file import Address, SeenIndexes, ShardRead, fail
from cache_schema.storage.object_client import Fetched, Piece
from cache_schema.storage.object_storage import ObjectStorage

_GAP_BYTES: Final = 1 << 20
"""Chunks nearer than this come in one request: a request costs as much time as some megabytes."""

_PIECE_BYTES: Final = 8 << 20
"""A longer run of chunks is cut into requests of about this size, which arrive side by side."""

_FLIGHT_BYTES: Final = 256 << 20
"""About as much is held in memory at once."""


@dataclass(slots=True)
class _Shard:
    """What is wanted of one shard, and what has come of it."""

    place: str
    address: Address
    reads: list[ShardRead]
    offsets: npt.NDArray[np.int64] | None
    """Where its chunks start; None where they are taken to stand in order."""
    index_is_due: bool
    """Whether the index was not seen yet, so that it is read too."""
    runs: list[tuple[int, int]] = field(default_factory=list)
    """First byte and end of what is asked for, in order."""


class RemoteShards:
    """Reads the shards of one array of a store in an object store.

    Chunks are taken to stand where this project's writer puts them. The first time, the index is
    read beside them and compared with that; where it says otherwise, it is followed. Threads may
    share an instance, and it survives a fork.

    Args:
        storage: where the store is.
        shape: arithmetic of the array's shards.
        check: whether to compare the crc32c of every chunk that is read.
    """

    group = 64

    def __init__(self, storage: ObjectStorage, shape: ShardShape, *, check: bool) -> None:
        self._storage = storage
        self._shape = shape
        self._check = check
        self._seen = SeenIndexes()

    def read_all(self, reads: Sequence[ShardRead]) -> None:
        """Reads chunks of some shards.

        Raises:
            CorruptStore: a shard or a chunk is missing, short or fails its checksum.
            StoreUnreachable: the server does not answer, or refuses.
        """
        shards: dict[str, _Shard] = {}
        for read in reads:
            if read.place not in shards:
                shards[read.place] = self._shard(read.place, read.address)
            shards[read.place].reads.append(read)
        for wave in self._waves(list(shards.values())):
            moved = self._read_wave(wave)
            if moved:
                self._read_wave(moved)

    def _shard(self, place: str, address: Address) -> _Shard:
        return _Shard(
            place=place,
            address=address,
            reads=[],
            offsets=self._seen.offsets(address),
            index_is_due=not self._seen.is_known(address),
        )

    def name(self, place: str) -> str:
        """Returns the full name of a shard file, for messages."""
        return self._storage.name(place)

    def read_whole(self, places: Sequence[str]) -> Iterator[tuple[str, Fetched | OSError]]:
        """Reads whole shard files, in an order of memory's choosing; nothing is checked."""
        per_wave = max(1, _FLIGHT_BYTES // self._shape.file_bytes(self._shape.chunks))
        for start in range(0, len(places), per_wave):
            wave = places[start : start + per_wave]
            yield from zip(wave, self._storage.fetch([Piece(p) for p in wave]), strict=True)

    def _waves(self, shards: Sequence[_Shard]) -> Iterator[list[_Shard]]:
        """Cuts the work into parts that fit into memory."""
        wave: list[_Shard] = []
        held = 0
        for shard in shards:
            size = sum(len(read.chunks) for read in shard.reads) * self._shape.stride
            if wave and held + size > _FLIGHT_BYTES:
                yield wave
                wave, held = [], 0
            wave.append(shard)
            held += size
        yield wave

    def _read_wave(self, shards: Sequence[_Shard]) -> list[_Shard]:
        """Reads what is wanted of some shards; returns those whose chunks stand elsewhere."""
        pieces: list[Piece] = []
        for shard in shards:
            if shard.offsets is not None:
                self._require_chunks(shard, shard.offsets)
            wanted = {chunk for read in shard.reads for chunk in read.chunks}
            shard.runs = self._runs(sorted({self._start(shard, chunk) for chunk in wanted}))
            pieces.extend(self._pieces(shard))
        answers = iter(self._storage.fetch(pieces))
        moved = []
        for shard in shards:
            count = len(self._pieces(shard))
            parts = [self._part(shard, part) for part in itertools.islice(answers, count)]
            if shard.index_is_due and self._follow_index(shard, parts):
                moved.append(shard)
                continue
            contents = [np.frombuffer(part.content, dtype=np.uint8) for part in parts]
            for read in shard.reads:
                self._deliver(shard, read, contents)
        return moved

    def _pieces(self, shard: _Shard) -> list[Piece]:
        """Returns the requests of a shard: its runs, and its index where that is due.

        The index comes with the last run where that ends near it, which makes one request of a
        whole clip.
        """
        pieces = [Piece(shard.place, start, end - start) for start, end in shard.runs]
        if shard.index_is_due:
            end = self._shape.file_bytes(self._shape.chunks)
            if shard.runs and end - shard.runs[-1][1] <= _GAP_BYTES:
                start = shard.runs[-1][0]
                pieces[-1] = Piece(shard.place, start, end - start)
            else:
                pieces.append(Piece(shard.place, None, self._shape.index_bytes))
        return pieces

    def _start(self, shard: _Shard, chunk: int) -> int:
        if shard.offsets is None:
            return chunk * self._shape.stride
        return int(shard.offsets[chunk])

    def _runs(self, starts: Sequence[int]) -> list[tuple[int, int]]:
        """Joins chunks that stand close together, and cuts long runs between two chunks."""
        stride = self._shape.stride
        runs: list[tuple[int, int]] = []
        for start in starts:
            if (
                runs
                and start - runs[-1][1] <= _GAP_BYTES
                and start + stride - runs[-1][0] <= max(_PIECE_BYTES, stride)
            ):
                runs[-1] = (runs[-1][0], start + stride)
            else:
                runs.append((start, start + stride))
        return runs

    def _part(self, shard: _Shard, part: Fetched | OSError) -> Fetched:
        if isinstance(part, FileNotFoundError):
            self._fail(shard, "is missing")
        if isinstance(part, OSError):
            raise part
        return part

    def _follow_index(self, shard: _Shard, parts: Sequence[Fetched]) -> bool:
        """Checks a shard's index and remembers it; tells whether wanted chunks stand elsewhere."""
        shape = self._shape
        last = parts[-1]
        if len(parts) == len(shard.runs) and last.size != shape.file_bytes(shape.chunks):
            # The file is not as long as was thought, so that was not its index.
            piece = Piece(shard.place, None, shape.index_bytes)
            last = self._part(shard, self._storage.fetch([piece])[0])
        try:
            index = bytes(last.content[-shape.index_bytes :])
            offsets = decode_index(index, shape, last.size)
        except ValueError as error:
            self._fail(shard, f"is damaged: {error}")
        self._require_chunks(shard, offsets)
        self._seen.add(shard.address, offsets, shape)
        shard.offsets, shard.index_is_due = offsets, False
        wanted = {chunk for read in shard.reads for chunk in read.chunks}
        return any(offsets[chunk] != chunk * shape.stride for chunk in wanted)

    def _require_chunks(self, shard: _Shard, offsets: npt.NDArray[np.int64]) -> None:
        for read in shard.reads:
            lacking = [chunk for chunk in read.chunks if offsets[chunk] < 0]
            if lacking:
                self._fail(shard, f"lacks chunk {lacking[0]}", read)

    def _deliver(self, shard: _Shard, read: ShardRead, parts: Sequence[Bytes]) -> None:
        """Copies a read's chunks to where they are wanted, and compares their checksums."""
        stride, size = self._shape.stride, self._shape.chunk_bytes
        stored = np.empty((len(read.chunks), CHECKSUM_BYTES), dtype=np.uint8)
        for row, chunk in enumerate(read.chunks):
            start = self._start(shard, chunk)
            run = next(n for n, (first, last) in enumerate(shard.runs) if first <= start < last)
            position = start - shard.runs[run][0]
            content = parts[run][position : position + stride]
            if len(content) < stride:
                self._fail(shard, "ends before its data do", read)
            read.out[row] = content[:size]
            stored[row] = content[size:]
        if self._check:
            wrong = checksums(read.out) != stored.view("<u4")[:, 0]
            if wrong.any():
                chunk = read.chunks[int(np.argmax(wrong))]
                self._fail(shard, f"has a wrong crc32c in chunk {chunk}", read)

    def _fail(self, shard: _Shard, what: str, read: ShardRead | None = None) -> NoReturn:
        fail(self._storage.name(shard.place), (read or shard.reads[0]).clip_id, what)
