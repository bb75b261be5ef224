"""Digests of one clip's features, equal in any two stores that hold the same bytes for it."""

import hashlib

import numpy as np
import numpy.typing as npt

from cache_schema.identity import FeatureIdentity
from cache_schema.layout import StoreLayout
from cache_schema.shards.shard import encode_shard
from cache_schema.shards.stored_patches import stored


def cls_digest(cls: npt.NDArray[np.float16]) -> str:
    """Returns the BLAKE2b-128 of a clip's CLS features, 32 hexadecimal digits.

    The manifest's ``cls_digest`` is that of a whole block, and so depends on the clip's neighbours.

    Args:
        cls: float16 [N, D].
    """
    return hashlib.blake2b(np.ascontiguousarray(cls, dtype="<f2").data, digest_size=16).hexdigest()


def patch_digest(patch: npt.NDArray[np.float16], identity: FeatureIdentity) -> str:
    """Returns the BLAKE2b-128 of the shard that holds a clip's patches, as manifests tell it.

    Args:
        patch: float16 [N, P, D], as readers get it.
        identity: identity of the store; empty is returned where its clips have no patches.
    """
    if identity.patches == 0:
        return ""
    shape = StoreLayout.of(identity, block_slots=1, segment_slots=1).patch_shard
    content = encode_shard(stored(patch, identity).values, shape)
    return hashlib.blake2b(content.data, digest_size=16).hexdigest()
