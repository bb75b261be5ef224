"""Joint space-time attention: every token sees every token; the plain transformer block.

Shapes: Q = questions, S = tokens, D = model width.
"""

from torch import Tensor, nn

from train.model.attention import AttentionKernel, MultiHeadAttention
from train.model.mlp import MLP


class JointBlock(nn.Module):
    r"""$u = x + \mathrm{MHA}(\mathrm{LN}(x)),\ y = u + \mathrm{MLP}(\mathrm{LN}(u))$ over all S tokens.

    Costs S^2 instead of the divided block's S (F + P): 620,000 instead of 51,000 products a head at
    16 frames of 49 patches.
    """

    def __init__(
        self, dim: int, heads: int, *, mlp_ratio: int = 4, kernel: AttentionKernel = "auto"
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads, kernel)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(
        self,
        x_QSD: Tensor,
        frames: int,  # noqa: ARG002 - one interface with the divided blocks
        *,
        cls_only: bool = False,
    ) -> Tensor:
        """Map [Q, S, D] to the same shape, or to its first row [Q, 1, D] with `cls_only`."""
        u_QSD = x_QSD + self.attention(self.norm_attention(x_QSD), None)
        if cls_only:
            u_QSD = u_QSD[:, :1]
        out: Tensor = u_QSD + self.mlp(self.norm_mlp(u_QSD))
        return out
