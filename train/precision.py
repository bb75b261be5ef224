"""In which number format a run multiplies matrices."""

import torch

from train.config import TrainConfig


def autocast(config: TrainConfig) -> torch.autocast:
    """Matrix products in bfloat16 where the run asks for it; a no-op in float32."""
    device = torch.device(config.device).type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision == "bf16")
