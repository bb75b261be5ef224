"""Pooled and patch tokens out of open_clip's vision towers: one recipe per family.

A recipe has two halves. The *body*, all blocks of the transformer, runs in the precision that is
asked for. The *head*, everything behind the last block, runs in fp32: it costs a hundredth of the
whole, and its output is what is kept.

B pictures, P patch tokens, W width of the tower, D width of the space shared with text.
"""

from typing import TYPE_CHECKING, Protocol, cast

import torch
import torch.nn.functional as F  # noqa: N812 -- the name the field uses
from torch import Tensor, nn

from extract.model_architecture import ModelArchitecture

if TYPE_CHECKING:
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

# Of timm's trunks, what lies behind the last block.
_TIMM_HEAD = ("norm", "fc_norm", "attn_pool", "head")


class VisionTower(Protocol):
    """A frozen tower, cut in two."""

    def body(self, pictures: Tensor) -> Tensor:
        """Returns the last block's output [B, prefix + P, W] from [B, 3, S, S]."""
        ...

    def trunk_tokens(self, body: Tensor) -> tuple[Tensor, Tensor]:
        """Returns fp32 [B, W] and [B, P, W]: pooled token and patch tokens, normed."""
        ...

    def project(self, tokens: Tensor) -> Tensor:
        """Returns tokens [..., W] in the space shared with text, [..., D]."""
        ...


def vision_tower(
    visual: nn.Module, architecture: ModelArchitecture, dtype: torch.dtype
) -> VisionTower:
    """Cuts a model's vision tower in two, in place, and brings its body to a precision.

    Args:
        visual: the tower of an open_clip model, in fp32.
        architecture: its configuration.
        dtype: of the body.
    """
    if architecture.family in {"clip", "clip-mean"}:
        return ClipTower(visual, architecture, dtype)
    return TimmTower(visual, dtype)


class ClipTower:
    """open_clip's own vision transformer (OpenAI's CLIP, OpenCLIP, DataComp, MetaCLIP, CLIPA).

    Family ``clip``: the pooled token is the class token. Family ``clip-mean`` (CLIPA): it is the
    mean of the patch tokens, normed after the mean where the configuration says
    ``final_ln_after_pool``. Patch tokens pass the same norm and the same projection.
    """

    def __init__(
        self, visual: nn.Module, architecture: ModelArchitecture, dtype: torch.dtype
    ) -> None:
        tower = cast("VisionTransformer", visual)
        self._mean = architecture.family == "clip-mean"
        self._mean_first = bool(tower.final_ln_after_pool)
        self._scale = tower.ln_post.weight.detach().clone()
        self._shift = tower.ln_post.bias.detach().clone()
        self._eps = float(tower.ln_post.eps)
        self._projection = cast("Tensor", tower.proj).detach().clone()
        self._tower: VisionTransformer = tower.to(dtype)

    def body(self, pictures: Tensor) -> Tensor:
        """Returns the last block's output, class token first."""
        output = self._tower.forward_intermediates(
            pictures,
            indices=1,
            intermediates_only=True,
            output_fmt="NLC",
            output_extra_tokens=True,
        )
        prefix = output["image_intermediates_prefix"][-1]
        return torch.cat([prefix, output["image_intermediates"][-1]], dim=1)

    def trunk_tokens(self, body: Tensor) -> tuple[Tensor, Tensor]:
        """Returns ``ln_post`` of the tokens."""
        body = body.float()
        normed = self._norm(body)
        patch = normed[:, 1:]
        if not self._mean:
            return normed[:, 0], patch
        if self._mean_first:
            return self._norm(body[:, 1:].mean(dim=1)), patch
        return patch.mean(dim=1), patch

    def project(self, tokens: Tensor) -> Tensor:
        """Returns tokens times ``proj``."""
        return tokens @ self._projection

    def _norm(self, tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, self._scale.shape, self._scale, self._shift, self._eps)


class TimmTower:
    """A trunk of timm with open_clip's adapter (SigLIP, EVA, MobileCLIP-B, ViTamin, PE-Core).

    The pooled token is what the trunk's own head makes before its classifier: the class token
    (family ``timm-token``), the mean of the patch tokens (``timm-mean``), or the output of an
    attention pooling (``timm-map``). Patch tokens pass the same norms, and the same projection
    where there is one; the attention pooling is not for them.
    """

    def __init__(self, visual: nn.Module, dtype: torch.dtype) -> None:
        tower = cast("TimmModel", visual)
        self._trunk = tower.trunk.to(dtype)
        for name in _TIMM_HEAD:
            if isinstance(part := getattr(self._trunk, name, None), nn.Module):
                part.float()
        # forward_features would apply it in the body's precision.
        self._norm: nn.Module = self._trunk.norm
        self._trunk.norm = nn.Identity()
        self._adapter = tower.head.float()
        self._prefix = int(self._trunk.num_prefix_tokens)

    def body(self, pictures: Tensor) -> Tensor:
        """Returns the last block's output, class token first if there is one."""
        return cast("Tensor", self._trunk.forward_features(pictures))

    def trunk_tokens(self, body: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what ``forward_head`` makes before the classifier, and the normed patches."""
        normed = self._norm(body.float())
        pooled = self._trunk.forward_head(normed, pre_logits=True)
        return pooled, self._trunk.fc_norm(normed[:, self._prefix :])

    def project(self, tokens: Tensor) -> Tensor:
        """Returns the trunk's classifier, and open_clip's projection, of tokens."""
        return cast("Tensor", self._adapter(self._trunk.head(tokens)))
