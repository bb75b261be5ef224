"""AdamW's parameter groups, the learning rate and the temperature of a step."""

import math
from collections import defaultdict
from typing import Final

import torch
from torch import nn

from train.config import TrainConfig

_EMBEDDINGS: Final = ("_embedding", "_embedding.weight")


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW in groups: matrices decay; biases, norms and embeddings do not; a text tower is slower.

    Each group has an `lr_scale`, which `set_learning_rate` multiplies by.
    """
    groups: defaultdict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and not name.endswith(_EMBEDDINGS)
        decay = config.weight_decay if is_matrix else 0.0
        scale = config.text_lr_scale if name.startswith("tower.") else 1.0
        groups[decay, scale].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "lr_scale": scale}
            for (decay, scale), parameters in groups.items()
        ],
        lr=config.lr,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of a step's rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


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
