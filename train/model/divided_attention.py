"""The divided space-time block of Frozen in Time, on which a vision refinement block is built.

Source: Bain et al., "Frozen in Time" (ICCV 2021), reference [4] of the paper.
Shapes: Q = questions, S = 1 + F * P tokens (video CLS first, then patches frame-major),
F = frames, P = patches, D = model width, h = heads, e = D / h.
"""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from train.model.attention import AttentionKernel, attend
from train.model.mlp import MLP

Axis = Literal["time", "space"]


class GroupedAttention(nn.Module):
    """Attention in which patches see [CLS; their own group] and the CLS sees every token.

    `axis="time"`: the patches at one place in all frames are a group.
    `axis="space"`: the patches of one frame are a group.
    """

    def __init__(self, dim: int, heads: int, axis: Axis, kernel: AttentionKernel = "auto") -> None:
        super().__init__()
        self.heads = heads
        self.axis: Axis = axis
        self.kernel: AttentionKernel = kernel
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_QSD: Tensor, frames: int, *, cls_only: bool = False) -> Tensor:
        """Map [Q, 1 + F * P, D] to the same shape, or to [Q, 1, D] with `cls_only`."""
        read = self._cls_row(x_QSD) if cls_only else self._all_rows(x_QSD, frames)
        out_QSD: Tensor = self.proj(read)
        return out_QSD

    def _all_rows(self, x_QSD: Tensor, frames: int) -> Tensor:
        """What every token reads from those that it sees, [Q, 1 + F * P, D]."""
        grouped = "p f" if self.axis == "time" else "f p"
        qkv = self.qkv(x_QSD).unflatten(-1, (3, self.heads, -1))
        cls_qkv, patch_qkv = qkv.split([1, qkv.shape[1] - 1], dim=1)
        cls_query, cls_key, cls_value = (
            rearrange(part, "q 1 h e -> q h 1 1 e") for part in cls_qkv.unbind(2)
        )
        query, key, value = (
            rearrange(part, f"q (f p) h e -> q h {grouped} e", f=frames)
            for part in patch_qkv.unbind(2)
        )
        key, value = _with_cls(cls_key, key), _with_cls(cls_value, value)
        patch_out = attend(query, key, value, None, self.kernel)
        # The CLS stands in front of every group; where it reads all of them it counts once.
        keep = torch.ones(key.shape[2:4], dtype=torch.bool, device=key.device)
        keep[1:, 0] = False
        cls_out = attend(
            cls_query.flatten(2, 3),
            key.flatten(2, 3),
            value.flatten(2, 3),
            rearrange(keep, "g m -> 1 (g m)"),
            self.kernel,
        )
        cls_row = rearrange(cls_out, "q h 1 e -> q 1 (h e)")
        patch_rows = rearrange(patch_out, f"q h {grouped} e -> q (f p) (h e)")
        return torch.cat([cls_row, patch_rows], dim=1)

    def _cls_row(self, x_QSD: Tensor) -> Tensor:
        r"""What the CLS reads from all tokens, [Q, 1, D], without a key or value of any of them.

        With one query a head the projections change sides:
        $q \cdot W_k x_s = (W_k^\top q) \cdot x_s$ and $\sum_s a_s W_v x_s = W_v \sum_s a_s x_s$. The
        keys' bias is the same for every s, which a softmax ignores; that of the values passes
        through, for the weights sum to 1.
        """
        w_q, w_k, w_v = rearrange(
            self.qkv.weight, "(three h e) d -> three h e d", three=3, h=self.heads
        )
        b_q, _, b_v = rearrange(self.qkv.bias, "(three h e) -> three h 1 e", three=3, h=self.heads)
        query_HQE = x_QSD[:, 0] @ w_q.mT + b_q
        asked_QHD = rearrange(query_HQE @ w_k, "h q d -> q h d")
        scale = query_HQE.shape[-1] ** -0.5
        read_QHD = attend(asked_QHD, x_QSD, x_QSD, None, self.kernel, scale=scale)
        value_HQE = rearrange(read_QHD, "q h d -> h q d") @ w_v.mT + b_v
        row_Q1D: Tensor = rearrange(value_HQE, "h q e -> q 1 (h e)")
        return row_Q1D


def _with_cls(cls_QH11E: Tensor, grouped: Tensor) -> Tensor:
    """Put the CLS in front of the members of every group."""
    every_group = cls_QH11E.expand(-1, -1, grouped.shape[2], -1, -1)
    return torch.cat([every_group, grouped], dim=3)


class DividedBlock(nn.Module):
    r"""Time attention, then space attention, then MLP, with Frozen in Time's skip form.

    .. math::
        t = x + \mathrm{Time}(\mathrm{LN}(x)),\quad
        u = x + \mathrm{Space}(\mathrm{LN}(t)),\quad
        y = u + \mathrm{MLP}(\mathrm{LN}(u))

    The residual of `u` starts at $x$, not at $t$: time enters only through the input of the
    space attention. Equal to the original to 1e-12 in float64 (golden vectors in the test).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: int = 4,
        kernel: AttentionKernel = "auto",
    ) -> None:
        super().__init__()
        self.norm_time = nn.LayerNorm(dim)
        self.time = GroupedAttention(dim, heads, "time", kernel)
        self.norm_space = nn.LayerNorm(dim)
        self.space = GroupedAttention(dim, heads, "space", kernel)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(self, x_QSD: Tensor, frames: int, *, cls_only: bool = False) -> Tensor:
        """Map [Q, 1 + F * P, D] to the same shape.

        `cls_only` computes the CLS row alone, [Q, 1, D]: the same numbers, for the last block of a
        stack of which only the CLS is read.
        """
        t_QSD = x_QSD + self.time(self.norm_time(x_QSD), frames)
        residual = x_QSD[:, :1] if cls_only else x_QSD
        u = residual + self.space(self.norm_space(t_QSD), frames, cls_only=cls_only)
        out: Tensor = u + self.mlp(self.norm_mlp(u))
        return out
