"""Which space-time layer a vision refinement block is built on ("any existing layer", §3.4)."""

from collections.abc import Mapping
from typing import Final, Literal

from train.model.attention import AttentionKernel
from train.model.divided_attention import DividedBlock
from train.model.joint_attention import JointBlock
from train.model.timesformer_block import TimeSformerBlock

SpaceTime = Literal["frozen", "timesformer", "joint"]

Layer = DividedBlock | TimeSformerBlock | JointBlock

_LAYERS: Final[Mapping[SpaceTime, type[Layer]]] = {
    "frozen": DividedBlock,
    "timesformer": TimeSformerBlock,
    "joint": JointBlock,
}


def build_space_time(
    layer: SpaceTime,
    dim: int,
    heads: int,
    *,
    mlp_ratio: int = 4,
    kernel: AttentionKernel = "auto",
) -> Layer:
    """Return the named layer; each maps (tokens, frames) to tokens, or to the CLS row alone."""
    return _LAYERS[layer](dim, heads, mlp_ratio=mlp_ratio, kernel=kernel)
