"""What can be wrong with one shard file and with the features in it."""

import hashlib
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cache_schema.blocks.block_commit import FileSeal
from cache_schema.layout import ShardShape
from cache_schema.shards.shard import checksums, decode_index, is_dense
from cache_schema.storage.storage import Storage

Severity = Literal["error", "warning", "notice"]


class Flaw(NamedTuple):
    """One flaw of a file or of its features."""

    severity: Severity
    code: str
    message: str


def length_flaws(
    storage: Storage, key: str, seal: FileSeal | None, shape: ShardShape, present: int
) -> list[Flaw]:
    """Compares a shard file's length with its commit and with the store's layout.

    Args:
        storage: where the store is.
        key: the shard.
        seal: what the commit says of the file.
        shape: arithmetic of the shard.
        present: number of chunks that must be there.
    """
    found = storage.size(key)
    if found is None:
        return [Flaw("error", "missing", "is missing")]
    expected = {shape.file_bytes(present), seal.bytes if seal else found}
    if expected != {found}:
        wanted = " and ".join(str(size) for size in sorted(expected))
        return [Flaw("error", "length", f"has {found} bytes, not {wanted}")]
    return []


def read_features(
    storage: Storage, key: str, seal: FileSeal | None, shape: ShardShape, present: int
) -> tuple[list[Flaw], npt.NDArray[np.generic]]:
    """Reads a shard whole and checks its digest, its index and every checksum.

    Arguments as ``length_flaws``, which must have found nothing.

    Returns:
        The flaws, and the chunks present, [present, values] of the shard's number type; no rows
        where the index cannot be trusted.
    """
    content = np.frombuffer(storage.read(key), dtype=np.uint8)
    flaws = []
    digest = hashlib.blake2b(content.data, digest_size=16).hexdigest()
    if seal is not None and digest != seal.digest:
        message = f"has the digest {digest}, not the {seal.digest} of its commit"
        flaws.append(Flaw("error", "digest", message))
    try:
        offsets = decode_index(content[-shape.index_bytes :].tobytes(), shape, len(content))
    except ValueError as error:
        flaws.append(Flaw("error", "index", f"is damaged: {error}"))
        return flaws, np.empty((0, shape.values), dtype=shape.dtype)
    if not is_dense(offsets[:present], shape) or (offsets[present:] >= 0).any():
        flaws.append(Flaw("error", "index", f"does not hold its first {present} chunks in order"))
    rows = content[: present * shape.stride].reshape(present, shape.stride)
    data = np.ascontiguousarray(rows[:, : shape.chunk_bytes])
    stored = np.ascontiguousarray(rows[:, shape.chunk_bytes :]).view("<u4")[:, 0]
    wrong = np.flatnonzero(checksums(data) != stored)
    if len(wrong):
        message = f"has a wrong crc32c in {len(wrong)} chunks, the first is {wrong[0]}"
        flaws.append(Flaw("error", "checksum", message))
    return flaws, data.view(np.dtype(shape.dtype).newbyteorder("<"))


def feature_flaws(tokens: npt.NDArray[np.float16]) -> list[Flaw]:
    """Looks for features that no encoder makes of a video.

    Args:
        tokens: float16 [N, P, D], the tokens of N frames.
    """
    flaws = []
    finite = np.isfinite(tokens).all(axis=(1, 2))
    if not finite.all():
        message = f"holds NaN or infinity in {int((~finite).sum())} of {len(tokens)} frames"
        flaws.append(Flaw("error", "nonfinite", message))
    constant = (
        (tokens == tokens[:, :1, :1]).all(axis=(1, 2))
        & finite
        & (tokens.shape[1] * tokens.shape[2] > 1)
    )
    if constant.any():
        message = f"holds one value throughout {int(constant.sum())} of {len(tokens)} frames"
        flaws.append(Flaw("warning", "constant", message))
    repeated = (tokens == tokens[:, :1]).all(axis=(1, 2)) & finite & ~constant
    if tokens.shape[1] > 1 and repeated.any():
        message = (
            f"repeats one patch token throughout {int(repeated.sum())} of {len(tokens)} frames"
        )
        flaws.append(Flaw("warning", "repeated-tokens", message))
    return flaws
