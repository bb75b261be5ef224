"""Section 3.3, Figure 4: one frame sampling block (gate, inter-frame attention, MLP).

Shapes: Q = questions, N = frames, D = model width.
"""

from typing import Literal

from torch import Tensor, nn

from train.model.attention import AttentionKernel, MultiHeadAttention
from train.model.fusion import Fusion, build_fusion
from train.model.mlp import MLP

SkipForm = Literal["frozen", "chained"]


class FrameSamplingBlock(nn.Module):
    r"""FS-Block: distil frames by the question, then let the frames see each other.

    .. math::
        g = \mathrm{LAGate}(\mathrm{LN}(x), t_{cls}),\quad
        u = r + \mathrm{MHA}(\mathrm{LN}(g)),\quad
        y = u + \mathrm{MLP}(\mathrm{LN}(u))

    The paper "borrows the form of skip connections from the divided block in [4]" without the
    formula. `skip="frozen"` takes the residual from the block's input, $r = x$, as Frozen in Time
    does around its first attention; `skip="chained"` adds the gate's change first,
    $r = x + (g - \mathrm{LN}(x))$, so that the similarity also reaches the stream unmixed.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: int = 4,
        skip: SkipForm = "frozen",
        fusion: Fusion = "la_gate",
        kernel: AttentionKernel = "auto",
    ) -> None:
        super().__init__()
        self.skip: SkipForm = skip
        self.norm_gate = nn.LayerNorm(dim)
        self.gate = build_fusion(fusion, dim, heads, kernel)
        self.norm_attention = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, heads, kernel)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(self, x_QND: Tensor, t_QD: Tensor) -> Tensor:
        """Map frame rows [Q, N, D] to [Q, N, D], conditioned on t_cls [Q, D]."""
        normed_QND = self.norm_gate(x_QND)
        gated_QND = self.gate(normed_QND, t_QD)
        residual_QND = x_QND if self.skip == "frozen" else x_QND + (gated_QND - normed_QND)
        # Every clip of a store has exactly N frames, so there is nothing to mask.
        u_QND = residual_QND + self.attention(self.norm_attention(gated_QND), None)
        out_QND: Tensor = u_QND + self.mlp(self.norm_mlp(u_QND))
        return out_QND
