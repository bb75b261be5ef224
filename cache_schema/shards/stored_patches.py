"""How patch features are kept: as they are, averaged, or as int8 with a scale for each token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cache_schema.identity import FeatureIdentity
from cache_schema.shards.int8_tokens import Float32, Int8, dequantise, quantise
from cache_schema.shards.measured_loss import MeasuredLoss
from cache_schema.shards.patch_grid import Pooling

Float16 = npt.NDArray[np.float16]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredPatches:
    """One clip's patches as a store keeps them."""

    values: Float16 | Int8
    """float16 or int8 [N, P, D]."""
    scale: Float32 | None
    """float32 [N, P], with int8."""
    loss: MeasuredLoss | None
    """How far they are from what was given; None for features that are kept as they were given."""


def patch_counts(identity: FeatureIdentity) -> Sequence[int]:
    """Returns how many patches a frame may have when its clip is offered for writing.

    A pooled store takes pooled grids, and also the grids that they are made of.
    """
    return sorted({identity.patches, identity.unreduced().patches})


def stored(patch: Float16, identity: FeatureIdentity) -> StoredPatches:
    """Brings one clip's patches into the form that a store of an identity keeps.

    What a reader of an int8 store gets becomes the same int8 values again.

    Args:
        patch: finite float16 [N, P, D], P one of ``patch_counts``.
        identity: identity of the store.
    """
    if identity.patches == 0 or not identity.variant:
        return StoredPatches(values=patch, scale=None, loss=None)
    kept, pooling = patch, None
    if identity.pool != "none" and patch.shape[1] != identity.patches:
        pooling = Pooling.parse(identity.pool)
        kept = pooling.pool(patch)
    if identity.quantised == "none":
        loss = MeasuredLoss.between(patch, pooling.spread(kept)) if pooling else None
        return StoredPatches(values=kept, scale=None, loss=loss)
    values, scale = quantise(kept)
    restored = np.empty(kept.shape, dtype=np.float16)
    dequantise(values, scale, restored)
    if pooling:
        restored = pooling.spread(restored)
    return StoredPatches(values=values, scale=scale, loss=MeasuredLoss.between(patch, restored))
