"""Finding the bytes that a damaged shard had: the digest in its commit tells when they are right."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import google_crc32c
import numpy as np

from cache_schema.blocks.block_commit import NO_SLOT, BlockCommit, FileSeal
from cache_schema.layout import CHECKSUM_BYTES, ArrayName, ShardShape, StoreLayout
from cache_schema.manifest.manifest import Manifest, read_manifest
from cache_schema.shards.shard import decode_index, encode_shard
from cache_schema.storage.storage import Storage
from cache_schema.store_root import StoreRoot, read_root, require_identity

_BLOCK_ARRAYS: Final[tuple[ArrayName, ...]] = ("cls", "patch_scale")
"""The arrays whose shards hold all clips of a block, as ``StoreLayout.block_files`` orders them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlace:
    """One shard file of a block, and the clips whose chunks it holds."""

    array: ArrayName
    key: str
    seal: FileSeal
    shape: ShardShape
    present: int
    """Number of chunks that are there."""
    clips: Mapping[str, int]
    """Slot of each clip."""


def shards_of(commit: BlockCommit, layout: StoreLayout) -> Iterator[ShardPlace]:
    """Yields the shard files of a block."""
    slots = {c.outcome.clip_id: c.slot for c in commit.clips if c.slot != NO_SLOT}
    files = layout.block_files(commit.segment, commit.block) if slots else ()
    seals = (commit.cls, commit.scale)
    for array, key, seal in zip(_BLOCK_ARRAYS, files, seals, strict=False):
        if seal is not None:
            yield ShardPlace(
                array=array,
                key=key,
                seal=seal,
                shape=_block_shape(array, layout),
                present=len(slots),
                clips=slots,
            )
    for clip in commit.clips:
        if clip.patch is not None:
            yield ShardPlace(
                array="patch",
                key=layout.patch_file(commit.segment, clip.slot),
                seal=clip.patch,
                shape=layout.patch_shard,
                present=layout.frames,
                clips={clip.outcome.clip_id: clip.slot},
            )


class ShardRecovery:
    """Looks for the bytes of damaged shards in what is left of them, and in another store.

    Args:
        root: the store.
        source: location of another store of the same identity, if there is one.

    Raises:
        IdentityMismatch: the other store holds other features.
        StoreError: the other store cannot be opened.
    """

    def __init__(self, root: StoreRoot, source: str | None) -> None:
        self._root = root
        self._source: tuple[StoreRoot, Manifest] | None = None
        if source is not None:
            other = read_root(source)
            require_identity(other, root.identity)
            self._source = other, read_manifest(other)

    def content(self, shard: ShardPlace) -> bytes | None:
        """Returns the bytes that a shard had when it was committed, None if nobody has them."""
        for candidate in self._candidates(shard):
            if len(candidate) == shard.seal.bytes and _digest(candidate) == shard.seal.digest:
                return candidate
        return None

    def sound_clips(self, shard: ShardPlace) -> set[str]:
        """Returns the clips whose chunks in a damaged shard can still be read."""
        content = _read(self._root.storage, shard.key)
        try:
            decode_index(content[-shard.shape.index_bytes :], shard.shape, len(content))
        except ValueError:
            return set()
        chunks, slots = _sound_chunks(content, shard.shape), self._root.layout.block_slots
        return {clip_id for clip_id, slot in shard.clips.items() if slot % slots in chunks}

    def _candidates(self, shard: ShardPlace) -> Iterator[bytes]:
        there = _read(self._root.storage, shard.key)
        yield there
        # Often only the index, a checksum or the length is damaged, and the features are not.
        rows = _rows(there, shard.shape, shard.present)
        if rows is not None:
            yield bytes(encode_shard(rows, shard.shape))
        if self._source is None:
            return
        other, manifest = self._source
        if other.attributes == self._root.attributes:
            yield _read(other.storage, shard.key)
        if shard.array != "patch":
            yield self._gathered(shard, _sound_chunks(there, shard.shape), other, manifest)
            return
        found = manifest.index.find(list(shard.clips))
        if found.ok[0]:
            place = int(found.segment[0]), int(found.slot[0])
            yield _read(other.storage, other.layout.patch_file(*place))

    def _gathered(
        self, shard: ShardPlace, chunks: dict[int, bytes], other: StoreRoot, manifest: Manifest
    ) -> bytes:
        """Puts a block's shard together, clip by clip, from what is sound here and there."""
        ids = list(shard.clips)
        found = manifest.index.find(ids)
        number, shape = _BLOCK_ARRAYS.index(shard.array), _block_shape(shard.array, other.layout)
        for row, clip_id in enumerate(ids):
            rank = shard.clips[clip_id] % self._root.layout.block_slots
            if rank in chunks or not found.ok[row]:
                continue
            block, there = divmod(int(found.slot[row]), other.layout.block_slots)
            key = other.layout.block_files(int(found.segment[row]), block)[number]
            chunk = _sound_chunks(_read(other.storage, key), shape).get(there)
            if chunk is not None:
                chunks[rank] = chunk
        if sorted(chunks)[: shard.present] != list(range(shard.present)):
            return b""
        joined = b"".join(chunks[rank] for rank in range(shard.present))
        rows = np.frombuffer(joined, dtype=shard.shape.dtype).reshape(shard.present, -1)
        return bytes(encode_shard(rows, shard.shape))


def sound_digest(storage: Storage, key: str, shape: ShardShape, present: int) -> str:
    """Returns the digest of a shard whose index and checksums are all right, nothing otherwise."""
    content = _read(storage, key)
    if len(content) != shape.file_bytes(present):
        return ""
    if len(_sound_chunks(content, shape)) != present:
        return ""
    try:
        decode_index(content[-shape.index_bytes :], shape, len(content))
    except ValueError:
        return ""
    return _digest(content)


def _block_shape(array: ArrayName, layout: StoreLayout) -> ShardShape:
    return layout.cls_shard if array == "cls" else layout.scale_shard


def _rows(content: bytes, shape: ShardShape, present: int) -> np.ndarray | None:
    """Returns what stands where a shard's chunks are, whatever their checksums say."""
    if len(content) < present * shape.stride:
        return None
    rows = np.frombuffer(content, np.uint8)[: present * shape.stride]
    data = np.ascontiguousarray(rows.reshape(present, shape.stride)[:, : shape.chunk_bytes])
    return data.view(np.dtype(shape.dtype).newbyteorder("<"))


def _sound_chunks(content: bytes, shape: ShardShape) -> dict[int, bytes]:
    """Returns the chunks of a dense shard that pass their checksums, by their number."""
    chunks = {}
    for number in range(min(shape.chunks, len(content) // shape.stride)):
        start = number * shape.stride
        chunk = content[start : start + shape.chunk_bytes]
        told = content[start + shape.chunk_bytes : start + shape.chunk_bytes + CHECKSUM_BYTES]
        if google_crc32c.value(chunk) == int.from_bytes(told, "little"):
            chunks[number] = chunk
    return chunks


def _read(storage: Storage, key: str) -> bytes:
    try:
        return storage.read(key)
    except FileNotFoundError:
        return b""


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
