"""The one masked attention of the model: every softmax over tokens in `train/` happens here.

Shapes: ... = leading axes (question, head, group), L = queries, S = keys, E = head width,
Q = questions, M = rows, D = model width, H = heads.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

AttentionKernel = Literal["auto", "sdpa", "explicit"]
"""`auto` is `explicit` on CPU and `sdpa` elsewhere; measured in docs/adr/0005-attention-on-cpu.md."""


def attend(
    q_LE: Tensor,
    k_SE: Tensor,
    v_SE: Tensor,
    keep_LS: Tensor | None,
    kernel: AttentionKernel = "auto",
) -> Tensor:
    r"""Scaled dot-product attention, $\mathrm{softmax}(q k^\top / \sqrt{E})\, v$, over kept keys.

    Args:
        q_LE: queries [..., L, E].
        k_SE: keys [..., S, E], same leading axes.
        v_SE: values [..., S, E].
        keep_LS: bool, broadcastable to [..., L, S]; False keys get exactly no weight. A query
            without any kept key returns zeros. None keeps every key.
        kernel: which implementation runs; they agree up to rounding.

    Returns:
        [..., L, E].
    """
    if kernel == "sdpa" or (kernel == "auto" and q_LE.device.type != "cpu"):
        out: Tensor = F.scaled_dot_product_attention(q_LE, k_SE, v_SE, attn_mask=keep_LS)
        # SDPA leaves a row without kept keys undefined (NaN or a mean, by backend).
        return out if keep_LS is None else out.masked_fill(~keep_LS.any(-1, keepdim=True), 0.0)
    score_LS: Tensor = (q_LE * q_LE.shape[-1] ** -0.5) @ k_SE.transpose(-1, -2)
    if keep_LS is not None:
        score_LS = score_LS.masked_fill(~keep_LS, torch.finfo(score_LS.dtype).min)
    weight_LS = score_LS.softmax(-1)
    if keep_LS is not None:
        weight_LS = weight_LS.masked_fill(~keep_LS, 0.0)
    mixed_LE: Tensor = weight_LS @ v_SE
    return mixed_LE


class MultiHeadAttention(nn.Module):
    """Standard multi-head self-attention [Vaswani et al. 2017], fused q|k|v projection.

    Maps [Q, M, D] to [Q, M, D]; heads are contiguous blocks of D / H.
    """

    def __init__(self, dim: int, heads: int, kernel: AttentionKernel = "auto") -> None:
        super().__init__()
        self.heads = heads
        self.kernel: AttentionKernel = kernel
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_QMD: Tensor, keep_QM: Tensor | None) -> Tensor:
        """Let every row attend to the rows of its own question that `keep_QM` keeps."""
        q, k, v = rearrange(
            self.qkv(x_QMD), "q m (three h e) -> three q h m e", three=3, h=self.heads
        )
        keep = None if keep_QM is None else rearrange(keep_QM, "q s -> q 1 1 s")
        out_QMD: Tensor = self.proj(
            rearrange(attend(q, k, v, keep, self.kernel), "q h m e -> q m (h e)")
        )
        return out_QMD
