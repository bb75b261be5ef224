"""The tokens v_* of Section 3.4: a learnable v*_cls in front of the selected frames' patches.

Shapes: Q = questions, K = selected frames, N = frames, P = patches, D = model width,
S = 1 + K * P tokens.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from train.model.taken_rows import take_rows


class PatchTokens(nn.Module):
    r"""$v_* = [v^*_{cls}; v^K_{patch}]$, frame-major.

    The paper names no position information on $v^K_{patch}$: `temporal` (an embedding of the
    selected frame's index in 1..N) and `spatial` (of the patch's place) are our choices.
    """

    def __init__(
        self, dim: int, frames: int, patches: int, *, temporal: bool = True, spatial: bool = True
    ) -> None:
        super().__init__()
        self.v_star_embedding = nn.Parameter(torch.zeros(dim))
        self.temporal_embedding = nn.Parameter(torch.zeros(frames, dim)) if temporal else None
        self.spatial_embedding = nn.Parameter(torch.zeros(patches, dim)) if spatial else None

    def forward(self, patch_QKPD: Tensor, index_QK: Tensor) -> Tensor:
        """Return tokens [Q, S, D] from patches and the indices of the frames that they are of."""
        if self.temporal_embedding is not None:
            time_QKD = take_rows(self.temporal_embedding, index_QK)
            patch_QKPD = patch_QKPD + rearrange(time_QKD, "q k d -> q k 1 d")
        if self.spatial_embedding is not None:
            patch_QKPD = patch_QKPD + self.spatial_embedding
        v_star = repeat(self.v_star_embedding, "d -> q 1 d", q=patch_QKPD.shape[0])
        return torch.cat([v_star, rearrange(patch_QKPD, "q k p d -> q (k p) d")], dim=1)
