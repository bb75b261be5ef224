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


_SHORT = 64  # keys; below it `_weights` takes the softmax along the other axis


def attend(
    q_LE: Tensor,
    k_SE: Tensor,
    v_SE: Tensor,
    keep_LS: Tensor | None,
    kernel: AttentionKernel = "auto",
    *,
    scale: float | None = None,
) -> Tensor:
    r"""Scaled dot-product attention, $\mathrm{softmax}(q k^\top / \sqrt{E})\, v$, over kept keys.

    Args:
        q_LE: queries [..., L, E].
        k_SE: keys [..., S, E], same leading axes.
        v_SE: values [..., S, E].
        keep_LS: bool, broadcastable to [..., L, S]; False keys get exactly no weight. A query
            without any kept key returns zeros. None keeps every key.
        kernel: which implementation runs; they agree up to rounding.
        scale: of the products, in place of $1 / \sqrt{E}$.

    Returns:
        [..., L, E].
    """
    scale = q_LE.shape[-1] ** -0.5 if scale is None else scale
    if kernel == "sdpa" or (kernel == "auto" and q_LE.device.type != "cpu"):
        out = _fused(q_LE, k_SE, v_SE, keep_LS, scale)
        # SDPA leaves a row without kept keys undefined (NaN or a mean, by backend).
        return out if keep_LS is None else out.masked_fill(~keep_LS.any(-1, keepdim=True), 0.0)
    mixed_LE: Tensor = _weights(q_LE * scale, k_SE, keep_LS).to(v_SE.dtype) @ v_SE
    return mixed_LE


def _fused(
    q_LE: Tensor, k_SE: Tensor, v_SE: Tensor, keep_LS: Tensor | None, scale: float
) -> Tensor:
    """Torch's attention with all leading axes but the first as one, for its fused kernels take four."""
    if keep_LS is not None and q_LE.ndim != 4:
        keep_LS = keep_LS.expand(*q_LE.shape[:-1], k_SE.shape[-2])[:, None].flatten(1, -3)
    q, k, v = (x[:, None].flatten(1, -3) for x in (q_LE, k_SE, v_SE))
    out: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=keep_LS, scale=scale)
    return out.reshape(*q_LE.shape[:-1], v_SE.shape[-1])


def _weights(q_LE: Tensor, k_SE: Tensor, keep_LS: Tensor | None) -> Tensor:
    """Softmax over the kept keys, [..., L, S]."""
    if k_SE.shape[-2] >= _SHORT:
        return _masked_softmax(q_LE @ k_SE.mT, keep_LS, -1)
    # The CPU takes a softmax along a short last axis value by value, but along the axis before it
    # many queries at a time, and in float32 faster than in bfloat16: docs/adr/0005.
    score_SL = k_SE @ q_LE.mT
    wide = torch.promote_types(score_SL.dtype, torch.float32)
    return _masked_softmax(score_SL.to(wide), None if keep_LS is None else keep_LS.mT, -2).mT


def _masked_softmax(score: Tensor, keep: Tensor | None, keys: int) -> Tensor:
    """Softmax along the axis `keys`, with exactly no weight where `keep` is False."""
    if keep is None:
        return score.softmax(keys)
    score = score.masked_fill(~keep, torch.finfo(score.dtype).min)
    return score.softmax(keys).masked_fill(~keep, 0.0)


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
        # Taken apart as it lies in memory: the backward writes the three gradients into one place.
        qkv = self.qkv(x_QMD).unflatten(-1, (3, self.heads, -1))
        q, k, v = (rearrange(part, "q m h e -> q h m e") for part in qkv.unbind(2))
        keep = None if keep_QM is None else rearrange(keep_QM, "q s -> q 1 1 s")
        out_QMD: Tensor = self.proj(
            rearrange(attend(q, k, v, keep, self.kernel), "q h m e -> q m (h e)")
        )
        return out_QMD
