"""The bytes of a Zarr v3 shard, encoded and read directly because they are the hot path.

Follows the sharding_indexed and crc32c codecs of the Zarr v3 specification: chunks of raw
little-endian numbers, each followed by its crc32c, then the index, (offset, length) of every chunk
as unsigned 64-bit pairs, followed by its own crc32c. A missing chunk has 2^64 - 1 for both.
"""

from collections.abc import Sequence
from typing import Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from cache_schema.layout import CHECKSUM_BYTES, ShardShape

_MISSING: Final = np.uint64(2**64 - 1)

Bytes = npt.NDArray[np.uint8]


def encode_shard(chunks: npt.NDArray[np.generic], shape: ShardShape) -> Bytes:
    """Returns a shard file whose first chunks are the given ones; the rest is marked missing.

    Args:
        chunks: [present, ...] of the shard's number type, each ``shape.chunk_bytes`` long.
        shape: the shard's arithmetic.
    """
    present, dtype = len(chunks), np.dtype(shape.dtype).newbyteorder("<")
    flat = np.ascontiguousarray(chunks, dtype=dtype).reshape(present, shape.values).view(np.uint8)
    file = np.empty(shape.file_bytes(present), dtype=np.uint8)
    rows = file[: present * shape.stride].reshape(present, shape.stride)
    rows[:, : shape.chunk_bytes] = flat
    rows[:, shape.chunk_bytes :] = checksums(flat).astype("<u4")[:, None].view(np.uint8)
    index = file[present * shape.stride :]
    index[:-CHECKSUM_BYTES] = _dense_index(present, shape).astype("<u8").reshape(-1).view(np.uint8)
    index[-CHECKSUM_BYTES:] = checksums(index[None, :-CHECKSUM_BYTES]).astype("<u4").view(np.uint8)
    return file


def decode_index(index: bytes, shape: ShardShape, file_bytes: int) -> npt.NDArray[np.int64]:
    """Returns where each chunk of a shard starts, int64 [shape.chunks], -1 for a missing chunk.

    Args:
        index: the last ``shape.index_bytes`` bytes of the file.
        shape: the shard's arithmetic.
        file_bytes: size of the whole file.

    Raises:
        ValueError: the index is short, fails its checksum or points outside the file; the caller
            knows the file and the clip, and says so.
    """
    if len(index) != shape.index_bytes:
        raise ValueError(f"its index has {len(index)} bytes, not {shape.index_bytes}")
    entries, stored = index[:-CHECKSUM_BYTES], index[-CHECKSUM_BYTES:]
    if google_crc32c.value(entries) != int.from_bytes(stored, "little"):
        raise ValueError("its index fails its checksum")
    pairs = np.frombuffer(entries, dtype="<u8").reshape(-1, 2)
    missing = (pairs == _MISSING).all(axis=1)
    offsets, lengths = pairs[~missing].T
    last = file_bytes - shape.index_bytes - shape.stride
    # An unsigned comparison: an offset of 2^63 and more would turn negative as int64.
    if (lengths != shape.stride).any() or last < 0 < len(offsets) or (offsets > max(last, 0)).any():
        raise ValueError("its index points outside the file, or at chunks of another size")
    found = np.full(shape.chunks, -1, dtype=np.int64)
    found[~missing] = offsets.astype(np.int64)
    return found


def is_dense(offsets: npt.NDArray[np.int64], shape: ShardShape) -> bool:
    """Tells whether chunk k of a shard stands at k strides: then its offset needs no index."""
    return bool((offsets == np.arange(len(offsets)) * shape.stride).all())


def checksums(rows: Bytes | Sequence[Bytes]) -> npt.NDArray[np.uint32]:
    """Returns the crc32c of every row, uint32 [len(rows)]."""
    return np.fromiter(map(google_crc32c.value, rows), dtype=np.uint32, count=len(rows))


def _dense_index(present: int, shape: ShardShape) -> npt.NDArray[np.uint64]:
    index = np.full((shape.chunks, 2), _MISSING, dtype=np.uint64)
    index[:present, 0] = np.arange(present, dtype=np.uint64) * np.uint64(shape.stride)
    index[:present, 1] = shape.stride
    return index
