"""Section 4: open-ended questions, as classification over the training answers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.batches import Batch
from train.config import TrainConfig
from train.objectives.objective import Loss
from train.precision import autocast
from train.vocabulary import UNKNOWN


class OpenAnswer:
    """Cross-entropy of the answer's class."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def __call__(
        self, model: nn.Module, batch: Batch, *, tau: float, generator: torch.Generator
    ) -> Loss:
        """Return the loss of Q open questions, each of which is one pair."""
        with autocast(self._config):
            answering = model(
                batch.cls, batch.patch, batch.text, batch.clip_of_pair, tau=tau, generator=generator
            )
        logit_QA: Tensor = answering.logits.float()
        loss = F.cross_entropy(
            logit_QA,
            batch.answer,
            ignore_index=UNKNOWN,
            label_smoothing=self._config.label_smoothing,
            reduction="sum",
        )
        return Loss(total=loss, right=int((logit_QA.argmax(-1) == batch.answer).sum()))
