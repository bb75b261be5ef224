"""The divided space-time block of Frozen in Time, on which a vision refinement block is built.

Source: Bain et al., "Frozen in Time" (ICCV 2021), reference [4] of the paper.
Shapes: Q = questions, S = 1 + F * P tokens (video CLS first, then patches frame-major),
F = frames, P = patches, D = model width, h = heads, e = D / h.
"""

from typing import Literal

import torch
from einops import rearrange, repeat
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
        qkv = rearrange(self.qkv(x_QSD), "q s (three h e) -> three q h s e", three=3, h=self.heads)
        query, key, value = qkv.unbind(0)
        out = attend(query[:, :, :1], key, value, None, self.kernel)
        if not cls_only:
            patch_key = _with_cls(key, self._group(key[:, :, 1:], frames))
            patch_value = _with_cls(value, self._group(value[:, :, 1:], frames))
            patch_query = self._group(query[:, :, 1:], frames)
            grouped = attend(patch_query, patch_key, patch_value, None, self.kernel)
            out = torch.cat([out, self._ungroup(grouped)], dim=2)
        out_QSD: Tensor = self.proj(rearrange(out, "q h s e -> q s (h e)"))
        return out_QSD

    def _group(self, x: Tensor, frames: int) -> Tensor:
        """Split the patch axis into [groups, members]."""
        if self.axis == "time":
            return rearrange(x, "q h (f p) e -> q h p f e", f=frames)
        return rearrange(x, "q h (f p) e -> q h f p e", f=frames)

    def _ungroup(self, x: Tensor) -> Tensor:
        """Undo `_group`."""
        if self.axis == "time":
            return rearrange(x, "q h p f e -> q h (f p) e")
        return rearrange(x, "q h f p e -> q h (f p) e")


def _with_cls(x: Tensor, grouped: Tensor) -> Tensor:
    """Put token 0 of `x` in front of the members of every group."""
    cls_token = repeat(x[:, :, 0], "q h e -> q h g 1 e", g=grouped.shape[2])
    return torch.cat([cls_token, grouped], dim=3)


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
