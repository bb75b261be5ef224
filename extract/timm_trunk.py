"""Shape of a timm trunk, measured on a model without memory: its name alone does not tell it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, cast

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos

from cache_schema import InputError

# timm takes `hf-hub:...` and `local-dir:...` for names too, and would load what lies there.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.]{0,99}")
# Transformers whose tokens are one grid of patches, at one resolution from the first block on.
_WITH_GRID: Final = (VisionTransformer, VisionTransformerRelPos, Eva)
_POOLS: Final[dict[str, Literal["token", "mean", "map"]]] = {
    "token": "token",
    "avg": "mean",
    "map": "map",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkShape:
    """What a trunk of timm gives."""

    width: int
    patches: int
    """Patch tokens of a picture."""
    image_size: int
    pool: Literal["token", "mean", "map"]
    """How the trunk makes one vector of its tokens."""
    projects: bool
    """Whether a layer follows the pooling, into the space shared with text."""


@lru_cache(maxsize=256)
def trunk_shape(name: str, pool: str, projection: str) -> TrunkShape:
    """Builds a trunk as ``open_clip.timm_model.TimmModel`` does, on torch's meta device.

    Args:
        name: timm's name of the trunk.
        pool: ``timm_pool`` of open_clip's configuration; empty for the trunk's own.
        projection: ``timm_proj``: ``none`` for no projection, ``linear`` or ``mlp`` for one that
            open_clip adds, empty for the trunk's classifier.

    Raises:
        InputError: no such trunk, or one without a grid of patch tokens.
    """
    if _NAME.fullmatch(name) is None or not timm.is_model(name):
        raise InputError(f"timm {timm.__version__} has no trunk {name!r}")
    with torch.device("meta"):
        if projection in {"linear", "mlp"}:
            trunk = timm.create_model(name, pretrained=False)
            # Without the keyword, the trunk keeps its own pooling.
            reset = cast("Callable[..., None]", trunk.reset_classifier)
            reset(0, **({"global_pool": pool} if pool else {}))
        else:
            trunk = timm.create_model(name, pretrained=False, num_classes=0, global_pool=pool)
    if not isinstance(trunk, _WITH_GRID):
        raise InputError(f"{name} ({type(trunk).__name__}) has no grid of patch tokens")
    pooled = _POOLS.get(trunk.global_pool)
    height, width = cast("tuple[int, int]", trunk.patch_embed.img_size)
    if pooled is None or height != width:
        raise InputError(
            f"{name} pools by {trunk.global_pool!r} from {height}x{width} pixels; known are "
            f"{sorted(_POOLS)} from squares"
        )
    return TrunkShape(
        width=int(trunk.embed_dim),
        patches=cast("int", trunk.patch_embed.num_patches),
        image_size=height,
        pool=pooled,
        projects=projection != "none",
    )
