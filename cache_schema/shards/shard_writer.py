"""Writing shard files: encode, create, read back, seal; side by side where the storage is far."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from cache_schema.blocks.block_commit import FileSeal
from cache_schema.errors import CorruptStore, StoreBusy
from cache_schema.layout import ShardShape
from cache_schema.shards.shard import encode_shard
from cache_schema.storage.storage import Storage

# A PUT waits about 0.1 s for its server and the reading back as long again; a disk gains nothing.
_PARALLEL_FAR: Final = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


class ShardWriter:
    """Writes the shards of one store. Threads may share it, and it survives a fork.

    Args:
        storage: where the store is.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._is_far = storage.local_file("") is None

    def each(self, write: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Calls a function that writes for each item, side by side where the storage is far."""
        if not self._is_far:
            return [write(item) for item in items]
        with ThreadPoolExecutor(_PARALLEL_FAR, thread_name_prefix="shard-writer") as pool:
            return list(pool.map(write, items))

    def publish(
        self,
        place: str,
        features: npt.NDArray[np.float16] | npt.NDArray[np.int8] | npt.NDArray[np.float32],
        shape: ShardShape,
    ) -> FileSeal:
        """Writes one shard and reads it back.

        Args:
            place: the file, below the store's root.
            features: what it holds, [present, ...] as ``encode_shard`` takes it.
            shape: the shard's arithmetic.

        Raises:
            StoreBusy: the file is there already.
            CorruptStore: it reads back differently.
            OSError: it cannot be written.
        """
        content = encode_shard(features, shape)
        file = self._storage.name(place)
        if not self._storage.create(place, content.data, sync_name=False):
            raise StoreBusy(
                f"{file} is there already: the claim of this block was written before, and did not "
                f"come to its commit. Abandon the claim and claim its clips again."
            )
        if not np.array_equal(np.frombuffer(self._storage.read(place), dtype=np.uint8), content):
            raise CorruptStore(
                f"{file} reads back differently than it was written; check the disk.", file=file
            )
        digest = hashlib.blake2b(content.data, digest_size=16).hexdigest()
        return FileSeal(bytes=content.nbytes, digest=digest)
