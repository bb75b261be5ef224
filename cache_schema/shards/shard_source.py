"""Which way the shards of a store are read: from files, from an object store, or through a cache."""

from dataclasses import dataclass
from pathlib import Path

from cache_schema.layout import ShardShape
from cache_schema.shards.remote_shards import RemoteShards
from cache_schema.shards.shard_cache import CachedShards, ShardCache
from cache_schema.shards.shard_file import ShardFiles, ShardReader
from cache_schema.storage.object_storage import ObjectStorage
from cache_schema.storage.storage import Storage


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSource:
    """Where a store's shards come from, and how they are checked."""

    storage: Storage
    check: bool
    """Whether to compare the crc32c of every chunk that is read."""
    cache: ShardCache | None = None
    """Where copies are kept; None for a store that is local, or read without a cache."""
    direct: bool = False
    """Whether files are read around the page cache."""

    def reader(self, shape: ShardShape) -> ShardReader:
        """Returns a reader of the shards of one array."""
        if not isinstance(self.storage, ObjectStorage):
            folder = Path(self.storage.location)
            return ShardFiles(folder, shape, check=self.check, direct=self.direct)
        remote = RemoteShards(self.storage, shape, check=self.check)
        if self.cache is None:
            return remote
        return CachedShards(remote, self.cache, shape, check=self.check)
