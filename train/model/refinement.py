"""Section 3.4: vision refinement, which turns the selected patches into one video vector.

Shapes: Q = questions, K = selected frames, N = frames, P = patches, D = model width,
S = 1 + K * P tokens.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from train.model.attention import AttentionKernel
from train.model.divided_attention import DividedBlock
from train.model.la_gate import LAGate


class VisionRefinementBlock(nn.Module):
    r"""VR-Block: $y = \mathrm{Divided}(\mathrm{LAGate}(v_*, t_{cls}))$ (Section 3.4, Figure 4).

    The gate acts on every token, $v^*_{cls}$ included, in front of the space-time block.
    """

    def __init__(
        self, dim: int, heads: int, *, mlp_ratio: int = 4, kernel: AttentionKernel = "auto"
    ) -> None:
        super().__init__()
        self.gate = LAGate(dim, heads)
        self.divided = DividedBlock(dim, heads, mlp_ratio=mlp_ratio, kernel=kernel)

    def forward(
        self, x_QSD: Tensor, t_QD: Tensor, frames: int, *, cls_only: bool = False
    ) -> Tensor:
        """Map tokens [Q, 1 + K * P, D] to the same shape, or to [Q, 1, D] with `cls_only`."""
        out: Tensor = self.divided(self.gate(x_QSD, t_QD), frames, cls_only=cls_only)
        return out


class VisionRefinement(nn.Module):
    r"""A stack of VR-Blocks on $v_* = [v^*_{cls}; v^K_{patch}]$; only the last $v^*_{cls}$ is read.

    $v^*_{cls}$ is a learnable token. The paper names no position information on
    $v^K_{patch}$: `temporal` (an embedding of the selected frame's index in 1..N), `spatial` (of
    the patch's place) and the closing LayerNorm of Frozen in Time are our choices, on by default.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        frames: int,
        patches: int,
        blocks: int,
        *,
        mlp_ratio: int = 4,
        temporal: bool = True,
        spatial: bool = True,
        final_norm: bool = True,
        kernel: AttentionKernel = "auto",
    ) -> None:
        super().__init__()
        self.v_star_embedding = nn.Parameter(torch.zeros(dim))
        self.temporal_embedding = nn.Parameter(torch.zeros(frames, dim)) if temporal else None
        self.spatial_embedding = nn.Parameter(torch.zeros(patches, dim)) if spatial else None
        self.blocks = nn.ModuleList(
            VisionRefinementBlock(dim, heads, mlp_ratio=mlp_ratio, kernel=kernel)
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(dim) if final_norm else nn.Identity()

    def forward(self, patch_QKPD: Tensor, t_QD: Tensor, index_QK: Tensor) -> Tensor:
        """Return v*_cls [Q, D] from the selected patches, t_cls and the selected frames' indices."""
        frames = patch_QKPD.shape[1]
        if self.temporal_embedding is not None:
            # F.embedding, not indexing: its CPU backward adds in a fixed order.
            time_QKD = F.embedding(index_QK, self.temporal_embedding)
            patch_QKPD = patch_QKPD + rearrange(time_QKD, "q k d -> q k 1 d")
        if self.spatial_embedding is not None:
            patch_QKPD = patch_QKPD + self.spatial_embedding
        v_star = repeat(self.v_star_embedding, "d -> q 1 d", q=patch_QKPD.shape[0])
        x_QSD = torch.cat([v_star, rearrange(patch_QKPD, "q k p d -> q (k p) d")], dim=1)
        last = len(self.blocks) - 1
        for depth, block in enumerate(self.blocks):
            x_QSD = block(x_QSD, t_QD, frames, cls_only=depth == last)
        out_QD: Tensor = self.norm(x_QSD[:, 0])
        return out_QD
