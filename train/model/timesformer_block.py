"""TimeSformer's divided space-time block, a named alternative inside a vision refinement block.

Source: Bertasius et al., "Is Space-Time Attention All You Need for Video Understanding?" (ICML
2021), reference [6] of the paper. Shapes: Q = questions, S = 1 + F * P tokens (video CLS first,
then patches frame-major), F = frames, P = patches, D = model width.
"""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from train.model.attention import AttentionKernel, MultiHeadAttention
from train.model.mlp import MLP


class TimeSformerBlock(nn.Module):
    r"""Time attention without the CLS, then space attention with a copy of the CLS per frame.

    .. math::
        p' = p + \mathrm{fc}(\mathrm{Time}(\mathrm{LN}(p))),\quad
        [c_f; r_f] = \mathrm{Space}(\mathrm{LN}([c; p'_f])),\quad
        u = [c + \mathrm{mean}_f\, c_f;\ p' + r],\quad
        y = u + \mathrm{MLP}(\mathrm{LN}(u))

    Unlike Frozen in Time's block the residual is chained: `r` is added to $p'$, not to $p$. The
    extra linear map `fc` starts at zero, as in the original, so time joins in gradually.
    """

    def __init__(
        self, dim: int, heads: int, *, mlp_ratio: int = 4, kernel: AttentionKernel = "auto"
    ) -> None:
        super().__init__()
        self.norm_time = nn.LayerNorm(dim)
        self.time = MultiHeadAttention(dim, heads, kernel)
        self.time_fc = nn.Linear(dim, dim)
        self.norm_space = nn.LayerNorm(dim)
        self.space = MultiHeadAttention(dim, heads, kernel)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = MLP(dim, mlp_ratio)

    def forward(self, x_QSD: Tensor, frames: int, *, cls_only: bool = False) -> Tensor:
        """Map [Q, 1 + F * P, D] to the same shape, or to [Q, 1, D] with `cls_only`."""
        questions = x_QSD.shape[0]
        cls_Q1D = x_QSD[:, :1]
        patch = rearrange(x_QSD[:, 1:], "q (f p) d -> (q p) f d", f=frames)
        patch = patch + self.time_fc(self.time(self.norm_time(patch), None))
        patch = rearrange(patch, "(q p) f d -> (q f) p d", q=questions)
        cls_per_frame = repeat(cls_Q1D, "q 1 d -> (q f) 1 d", f=frames)
        seen = self.space(self.norm_space(torch.cat([cls_per_frame, patch], dim=1)), None)
        cls_mean = rearrange(seen[:, 0], "(q f) d -> q f d", q=questions).mean(1, keepdim=True)
        u_QSD = cls_Q1D + cls_mean
        if not cls_only:
            patch = rearrange(patch + seen[:, 1:], "(q f) p d -> q (f p) d", q=questions)
            u_QSD = torch.cat([u_QSD, patch], dim=1)
        out: Tensor = u_QSD + self.mlp(self.norm_mlp(u_QSD))
        return out
