"""Table 4 (a) and (d): what stands in place of vision refinement when it is removed.

Shapes: Q = questions, K = selected frames, P = patches, D = model width.
"""

import torch
from torch import Tensor, nn

from train.model.attention import AttentionKernel
from train.model.joint_attention import JointBlock
from train.model.patch_tokens import PatchTokens


class FusionTransformer(nn.Module):
    """The paper's "3-layer transformer to fuse the vision and language", over [v_*; t_cls].

    The text is a token among the others. Depth and tokens are the paper's words and our reading;
    nothing more is said.
    """

    def __init__(
        self,
        tokens: PatchTokens,
        dim: int,
        heads: int,
        layers: int,
        *,
        mlp_ratio: int = 4,
        final_norm: bool = True,
        kernel: AttentionKernel = "auto",
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.blocks = nn.ModuleList(
            JointBlock(dim, heads, mlp_ratio=mlp_ratio, kernel=kernel) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim) if final_norm else nn.Identity()

    def forward(self, patch_QKPD: Tensor, t: Tensor, index_QK: Tensor) -> Tensor:
        """Return v*_cls [Q, D] from the frames' patches, the text and the frames' indices.

        The text is t_cls [Q, D], or rows [Q, L, D], of which each is a token.
        """
        frames = patch_QKPD.shape[1]
        t_QLD = t.unsqueeze(1) if t.ndim == 2 else t
        x_QSD = torch.cat([self.tokens(patch_QKPD, index_QK), t_QLD], dim=1)
        last = len(self.blocks) - 1
        for depth, block in enumerate(self.blocks):
            x_QSD = block(x_QSD, frames, cls_only=depth == last)
        out_QD: Tensor = self.norm(x_QSD[:, 0])
        return out_QD
