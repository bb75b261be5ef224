"""AdamW's parameter groups, the learning rate and the temperature of a step."""

import math

import torch
from torch import nn

from train.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in two groups: matrices decay; biases, norms and embeddings do not."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and not name.endswith("_embedding")
        (decayed if is_matrix else kept).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up to `lr` over `warmup_steps`, then half a cosine down to 0; `step` from 0."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / (config.steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))


def temperature(step: int, config: TrainConfig) -> float:
    """Tau of Eq. 4: a straight line from `tau_start` to `tau_end`; `step` from 0."""
    share = step / max(1, config.steps - 1)
    return config.tau_start + (config.tau_end - config.tau_start) * share
