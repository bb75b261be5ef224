"""Section 3.2: the Language-Aware Gate, which scales visual rows by their similarity to the text.

Shapes: Q = questions, M = visual rows, L = text rows, D = model width, H = heads, E = D / H.
"""

import torch
from einops import rearrange
from torch import Tensor, nn

_SMALLEST_NORM = 1e-6  # a zero row has similarity 0 instead of 0 / 0


class LAGate(nn.Module):
    r"""Excite or depress each visual row by how similar it is to the text (Eq. 1-3).

    .. math::
        key = w_k(t_{cls}),\quad query_i = w_q(v_i),\quad value_i = w_v(v_i) \tag{1}

        dist_i = \mathrm{repeat}\left(
            \frac{query_i \cdot key}{\|query_i\| \times \|key\|}\right) \tag{2}

        v^i_{distill} = w_o(dist_i \odot value_i) \tag{3}

    per head (head outputs concatenated before $w_o$), plus the input skip of Section 3.2:
    `forward` returns $v_i + v^i_{distill}$. `dist` is a cosine in [-1, 1]: no softmax, no sigmoid,
    and no row sees another one. Text of several rows sums its similarities (Section 3.2, "L > 1");
    all L rows count, so that none may be padding: there is no mask.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.w_q = nn.Linear(dim, dim)
        self.w_k = nn.Linear(dim, dim)
        self.w_v = nn.Linear(dim, dim)
        self.w_o = nn.Linear(dim, dim)

    def importance(self, v_QMD: Tensor, t_QLD: Tensor) -> Tensor:
        """Eq. 2 before `repeat`: per-head similarity [Q, M, H] of visual rows and text."""
        query_QMD: Tensor = self.w_q(v_QMD)
        key = rearrange(self.w_k(t_QLD), "q l (h e) -> q l h e", h=self.heads)
        # sum_l cos(query, key_l) = (query . sum_l key_l / |key_l|) / |query|: one dot product a row.
        direction_QD = rearrange((key / _norm(key)).sum(1), "q h e -> q (h e)")
        # Sums over the width of a head as products, several times faster than sums on a CPU.
        of_head_DH = _head_membership(self.heads, query_QMD)
        dot_QMH = query_QMD @ (direction_QD.unsqueeze(-1) * of_head_DH)
        square_QMH = query_QMD.square() @ of_head_DH
        dist_QMH: Tensor = dot_QMH * square_QMH.clamp_min(_SMALLEST_NORM**2).rsqrt()
        return dist_QMH

    def forward(self, v_QMD: Tensor, t: Tensor) -> Tensor:
        """Gate `v_QMD` by the text `t` of shape [Q, D] (t_cls) or [Q, L, D] (text rows, no padding)."""
        t_QLD = t.unsqueeze(1) if t.ndim == 2 else t
        dist_QMH = self.importance(v_QMD, t_QLD)
        value = rearrange(self.w_v(v_QMD), "q m (h e) -> q m h e", h=self.heads)
        gated_QMD = rearrange(dist_QMH.unsqueeze(-1) * value, "q m h e -> q m (h e)")
        out_QMD: Tensor = v_QMD + self.w_o(gated_QMD)
        return out_QMD


def _norm(x: Tensor) -> Tensor:
    """Euclidean norm of the last axis, kept, never below `_SMALLEST_NORM`."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.clamp_min(_SMALLEST_NORM)


def _head_membership(heads: int, like_QMD: Tensor) -> Tensor:
    """[D, H], 1 where a dimension belongs to a head."""
    one_HH = torch.eye(heads, dtype=like_QMD.dtype, device=like_QMD.device)
    return one_HH.repeat_interleave(like_QMD.shape[-1] // heads, dim=0)
