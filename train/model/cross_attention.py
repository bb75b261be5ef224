"""The rivals of the LA-Gate in Section 3.2, Figure 3(b): cross-attention of video and text.

Shapes: Q = questions, M = visual rows, L = text rows, D = model width, H = heads, E = D / H.
"""

from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from train.model.attention import AttentionKernel, attend

Direction = Literal["v2t", "t2v"]


class CrossAttention(nn.Module):
    r"""Multi-head attention between visual rows and text rows, with the gate's interface and skip.

    `v2t` (video as query) rebuilds the text in the shape of the video,

    .. math:: v_i + w_o\,\mathrm{softmax}(w_q(v_i)\, w_k(t)^\top / \sqrt{E})\, w_v(t),

    so that text enters the visual stream directly; with the one row $t_{cls}$ the softmax is 1 and
    every row receives the same vector. `t2v` (text as query) mixes the visual rows,

    .. math:: w_o\,\mathrm{softmax}(w_q(t)\, w_k(v)^\top / \sqrt{E})\, w_v(v),

    and has L rows: it alters the shape, as the paper objects. To stand in a middle layer at all,
    the mean of its L rows is added to every visual row; that is our choice.
    """

    def __init__(
        self, dim: int, heads: int, direction: Direction, kernel: AttentionKernel = "auto"
    ) -> None:
        super().__init__()
        self.heads = heads
        self.direction: Direction = direction
        self.kernel: AttentionKernel = kernel
        self.w_q = nn.Linear(dim, dim)
        self.w_k = nn.Linear(dim, dim)
        self.w_v = nn.Linear(dim, dim)
        self.w_o = nn.Linear(dim, dim)

    def mixed(self, v_QMD: Tensor, t_QLD: Tensor) -> Tensor:
        """The attention before the skip: [Q, M, D] for `v2t`, [Q, L, D] for `t2v`."""
        asking, asked = (v_QMD, t_QLD) if self.direction == "v2t" else (t_QLD, v_QMD)
        query, key, value = (
            rearrange(projected, "q r (h e) -> q h r e", h=self.heads)
            for projected in (self.w_q(asking), self.w_k(asked), self.w_v(asked))
        )
        out = attend(query, key, value, None, self.kernel)
        mixed: Tensor = self.w_o(rearrange(out, "q h r e -> q r (h e)"))
        return mixed

    def forward(self, v_QMD: Tensor, t: Tensor) -> Tensor:
        """Fuse `v_QMD` with the text `t` of shape [Q, D] (t_cls) or [Q, L, D] (text rows)."""
        mixed = self.mixed(v_QMD, t.unsqueeze(1) if t.ndim == 2 else t)
        return v_QMD + (mixed if self.direction == "v2t" else mixed.mean(1, keepdim=True))
