"""Section 3.4: vision refinement, which turns the selected patches into one video vector.

Shapes: Q = questions, K = selected frames, P = patches, D = model width, S = 1 + K * P tokens.
"""

from torch import Tensor, nn

from train.model.attention import AttentionKernel
from train.model.fusion import Fusion, build_fusion
from train.model.patch_tokens import PatchTokens
from train.model.space_time import SpaceTime, build_space_time


class VisionRefinementBlock(nn.Module):
    r"""VR-Block: $y = \mathrm{SpaceTime}(\mathrm{LAGate}(v_*, t_{cls}))$ (Section 3.4, Figure 4).

    The gate acts on every token, $v^*_{cls}$ included, in front of the space-time layer.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: int = 4,
        fusion: Fusion = "la_gate",
        space_time: SpaceTime = "frozen",
        kernel: AttentionKernel = "auto",
    ) -> None:
        super().__init__()
        self.gate = build_fusion(fusion, dim, heads, kernel)
        self.space_time = build_space_time(
            space_time, dim, heads, mlp_ratio=mlp_ratio, kernel=kernel
        )

    def forward(self, x_QSD: Tensor, t: Tensor, frames: int, *, cls_only: bool = False) -> Tensor:
        """Map tokens [Q, 1 + K * P, D] to the same shape, or to [Q, 1, D] with `cls_only`."""
        out: Tensor = self.space_time(self.gate(x_QSD, t), frames, cls_only=cls_only)
        return out


class VisionRefinement(nn.Module):
    """A stack of VR-Blocks on v_*; only the last v*_cls is read.

    The closing LayerNorm of Frozen in Time (`final_norm`) is our choice, on by default.
    """

    def __init__(
        self,
        tokens: PatchTokens,
        dim: int,
        heads: int,
        blocks: int,
        *,
        mlp_ratio: int = 4,
        fusion: Fusion = "la_gate",
        space_time: SpaceTime = "frozen",
        final_norm: bool = True,
        kernel: AttentionKernel = "auto",
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.blocks = nn.ModuleList(
            VisionRefinementBlock(
                dim,
                heads,
                mlp_ratio=mlp_ratio,
                fusion=fusion,
                space_time=space_time,
                kernel=kernel,
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(dim) if final_norm else nn.Identity()

    def forward(self, patch_QKPD: Tensor, t: Tensor, index_QK: Tensor) -> Tensor:
        """Return v*_cls [Q, D] from the selected patches, the text and the selected frames' indices.

        The text is t_cls [Q, D], or rows [Q, L, D] that the gates sum over (Section 3.2).
        """
        frames = patch_QKPD.shape[1]
        x_QSD = self.tokens(patch_QKPD, index_QK)
        last = len(self.blocks) - 1
        for depth, block in enumerate(self.blocks):
            x_QSD = block(x_QSD, t, frames, cls_only=depth == last)
        out_QD: Tensor = self.norm(x_QSD[:, 0])
        return out_QD
