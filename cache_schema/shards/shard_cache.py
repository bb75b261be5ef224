"""Local copies of the shards that were read from an object store, for the next time."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from cache_schema.errors import CorruptStore, InputError
from cache_schema.layout import ShardShape
from cache_schema.shards.remote_shards import RemoteShards
from cache_schema.shards.shard import checksums, decode_index
from cache_schema.shards.shard_file import ShardFiles, ShardRead, fail
from cache_schema.shards.turns import Turns
from cache_schema.storage.durable_files import TEMPORARY_PREFIX, Buffer, temporary_name
from cache_schema.store_root import StoreRoot

_LOOK_AFTER: Final = 0.05
_SHRINK_TO: Final = 0.9


class ShardCache:
    """A folder of verified copies of one store's shard files.

    Several processes, and several stores, may share the folder. Copies are not forced to disk: one
    that a crash has damaged fails its checksum when it is read, and is fetched again.

    Args:
        folder: where copies are kept.
        root: the store.
        max_bytes: about as much is kept in the whole folder. Then the oldest copies of other stores
            go, and where there are none no more is kept. No limit by default.

    Raises:
        InputError: the folder is taken by a file, or the limit is negative.
    """

    def __init__(self, folder: Path, root: StoreRoot, *, max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes < 0:
            raise InputError(f"A cache of {max_bytes} bytes is less than none; give 0 or more.")
        # A store made anew at the same place is another store.
        told = f"{root.storage.location}\n{root.identity.digest}\n{root.created}"
        self.folder = folder
        self.root = folder / hashlib.blake2b(told.encode(), digest_size=12).hexdigest()
        self.max_bytes = max_bytes
        self.hits = 0
        """Reads that a copy has answered, in this process."""
        self.misses = 0
        """Shards that were fetched to be kept, in this process."""
        self.turns = Turns()
        """Who fetches which shard, in this process."""
        self._held = 0
        self._since_look = max_bytes or 0
        self._full = False
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise InputError(f"The cache cannot be in {folder}, which is a file.") from error

    def room_for(self, shards: int, size: int) -> int:
        """Returns how many copies of some shards are to be kept, and counts them as if they were there.

        What is full stays as it is: an epoch reads every shard once, in ever another order, so that
        each copy which made room for another would be gone before it is wanted again. Only old
        copies of other stores make room. About right where threads or processes ask at once.
        """
        limit = self.max_bytes
        if limit is None:
            return shards
        if self._full or size > limit:
            return 0
        wanted = min(shards, limit // size) * size
        # Other processes write too, so the folder is looked at again now and then.
        if self._held + wanted > limit or self._since_look >= limit * _LOOK_AFTER:
            self._make_room(limit, wanted)
        kept = min(shards, max(0, limit - self._held) // size)
        self._held += kept * size
        self._since_look += kept * size
        self._full = kept < shards
        return kept

    def keep(self, place: str, content: Buffer) -> None:
        """Keeps a copy, in place of one that was there."""
        path = self.root / place
        temporary = temporary_name(path)
        # A cache that is full or may not be written costs time, not the reader's work.
        with contextlib.suppress(OSError):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(content)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def _make_room(self, limit: int, wanted: int) -> None:
        copies = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                if name.startswith(("c.", TEMPORARY_PREFIX)):
                    with contextlib.suppress(OSError):
                        path = Path(folder, name)
                        status = path.stat()
                        own = name.startswith("c.") and path.is_relative_to(self.root)
                        copies.append((own, status.st_mtime, status.st_size, path))
        held = sum(size for _, _, size, _ in copies)
        room = limit if held + wanted <= limit else min(limit * _SHRINK_TO, limit - wanted)
        for own, _, size, path in sorted(copies):
            # Its own copies go only where the limit was lowered.
            if held <= (limit if own else room):
                break
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                held -= size
        self._held, self._since_look = held, 0


class CachedShards:
    """A ``ShardReader`` that reads local copies, and first makes those that are missing.

    Args:
        remote: where the shards come from.
        cache: where their copies are.
        shape: arithmetic of the array's shards.
        check: whether to compare the crc32c of every chunk that is read from a copy; what is
            fetched is always checked whole.
    """

    group = RemoteShards.group

    def __init__(
        self, remote: RemoteShards, cache: ShardCache, shape: ShardShape, *, check: bool
    ) -> None:
        self._remote = remote
        self._cache = cache
        self._shape = shape
        self._copies = ShardFiles(cache.root, shape, check=check)

    def read_all(self, reads: Sequence[ShardRead]) -> None:
        """Reads chunks of some shards.

        Raises:
            CorruptStore: a shard is missing at its source, short or fails its checksum.
            StoreUnreachable: the server does not answer, or refuses.
        """
        left = self._read_copies(reads)
        if left:
            with self._cache.turns.hold({read.place for read in left}):
                # Another thread may have fetched them while this one waited.
                left = self._read_copies(left)
                self._fetch({read.place: read.clip_id for read in left})
        self._cache.hits += len(reads) - len(left)
        # What finds no room in the cache is read from the source, as without one.
        self._remote.read_all(self._read_copies(left))

    def _fetch(self, clip_of: Mapping[str, str]) -> None:
        """Keeps copies of shards that there is room for."""
        size = self._shape.file_bytes(self._shape.chunks)
        wanted = list(clip_of)[: self._cache.room_for(len(clip_of), size)]
        for place, part in self._remote.read_whole(wanted):
            if isinstance(part, FileNotFoundError):
                fail(self._remote.name(place), clip_of[place], "is missing")
            if isinstance(part, OSError):
                raise part
            try:
                _require_sound(part.content, self._shape)
            except ValueError as error:
                fail(self._remote.name(place), clip_of[place], f"is damaged: {error}")
            self._cache.misses += 1
            self._cache.keep(place, part.content)

    def _read_copies(self, reads: Sequence[ShardRead]) -> list[ShardRead]:
        """Reads what there are sound copies of, and returns the rest."""
        left = []
        for read in reads:
            try:
                self._copies.read(*read)
            except CorruptStore:
                left.append(read)
        return left


def _require_sound(content: Buffer, shape: ShardShape) -> None:
    """Checks the index and every checksum of a shard file.

    Raises:
        ValueError: says what is wrong.
    """
    index = bytes(content[-shape.index_bytes :])
    offsets = decode_index(index, shape, len(content))
    data = np.frombuffer(content, dtype=np.uint8)
    for chunk in np.flatnonzero(offsets >= 0):
        row = data[offsets[chunk] : offsets[chunk] + shape.stride]
        stored = int.from_bytes(row[shape.chunk_bytes :].tobytes(), "little")
        if int(checksums(row[None, : shape.chunk_bytes])[0]) != stored:
            raise ValueError(f"it has a wrong crc32c in chunk {chunk}")
