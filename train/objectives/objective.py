"""One interface for all that a training step can minimise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from train.batches import Batch


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """What a batch costs. Sums, so that batches of any size add up to one step's mean."""

    total: Tensor
    """Summed over the batch's questions; a mean over pairs counts once per question."""
    right: int
    """Questions answered right."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """The parts of `total` by name, summed likewise, for the curves."""


class Objective(Protocol):
    """Scores a batch with a model in training mode."""

    def __call__(
        self, model: nn.Module, batch: Batch, *, tau: float, generator: torch.Generator
    ) -> Loss:
        """Return the loss of a batch.

        Args:
            model: called as every model is; see `train.methods`.
            batch: on the model's device.
            tau: temperature of Eq. 4.
            generator: source of all randomness.
        """
