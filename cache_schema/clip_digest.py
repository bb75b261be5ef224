"""Digests of one clip's features, equal in any two stores that hold the same bytes for it."""

import hashlib

import numpy as np
import numpy.typing as npt

from cache_schema.layout import ShardShape
from cache_schema.shard import encode_shard


def cls_digest(cls: npt.NDArray[np.float16]) -> str:
    """Returns the BLAKE2b-128 of a clip's CLS features, 32 hexadecimal digits.

    The manifest's ``cls_digest`` is that of a whole block, and so depends on the clip's neighbours.

    Args:
        cls: float16 [N, D].
    """
    return hashlib.blake2b(np.ascontiguousarray(cls, dtype="<f2").data, digest_size=16).hexdigest()


def patch_digest(patch: npt.NDArray[np.float16], shape: ShardShape) -> str:
    """Returns the BLAKE2b-128 of the shard that holds a clip's patch features, as manifests tell it.

    Args:
        patch: float16 [N, P, D].
        shape: arithmetic of the shard.
    """
    chunks = patch.reshape(shape.chunks, shape.chunk_bytes // 2)
    return hashlib.blake2b(encode_shard(chunks, shape).data, digest_size=16).hexdigest()
