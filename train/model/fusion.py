"""Which unit lets language act on vision: the paper's LA-Gate, or a rival of Table 4 (e)."""

from typing import Literal

from train.model.attention import AttentionKernel
from train.model.cross_attention import CrossAttention
from train.model.la_gate import LAGate

Fusion = Literal["la_gate", "v2t", "t2v"]


def build_fusion(
    fusion: Fusion, dim: int, heads: int, kernel: AttentionKernel = "auto"
) -> LAGate | CrossAttention:
    """Return the named unit; each maps ([Q, M, D], text) to [Q, M, D], its input skip included."""
    if fusion == "la_gate":
        return LAGate(dim, heads)
    return CrossAttention(dim, heads, fusion, kernel)
