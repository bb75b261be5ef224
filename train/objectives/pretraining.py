"""Eq. 7-10: the losses of pretraining on captions.

Shapes: R = pairs of a text and a clip, D = model width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.batches import Batch
from train.config import TrainConfig
from train.model.matching_head import MATCHED
from train.objectives.contrastive import contrastive_loss
from train.objectives.masked_words import MaskedWords
from train.objectives.matching import alike, exchange
from train.objectives.objective import Loss
from train.precision import autocast


class Pretraining:
    """Eq. 10: the unweighted sum of the losses that the run asks for."""

    def __init__(self, config: TrainConfig, masked_words: MaskedWords | None = None) -> None:
        self._config = config
        self._losses = config.pretraining
        self._masked_words = masked_words

    def __call__(
        self, model: nn.Module, batch: Batch, *, tau: float, generator: torch.Generator
    ) -> Loss:
        """Return the loss of R caption pairs, about half of which exchange their captions."""
        alike_RR = alike(batch.clip_of_pair, batch.text)
        source_R = exchange(alike_RR, self._losses.exchange, generator)
        matched_R = source_R == torch.arange(len(source_R), device=source_R.device)
        with autocast(self._config):
            answering = model(
                batch.cls,
                batch.patch,
                batch.text[source_R],
                batch.clip_of_pair,
                tau=tau,
                generator=generator,
            )
        logit_R2: Tensor = answering.logits.float()
        terms: dict[str, Tensor] = {}
        if self._losses.matching:
            terms["matching"] = F.cross_entropy(logit_R2, matched_R.long())
        if self._losses.contrastive:
            terms["contrastive"] = contrastive_loss(
                answering.video.float(),
                answering.text.float(),
                matched_R,
                alike_RR[:, source_R],
                self._losses.contrastive_tau,
            )
        if self._masked_words is not None and batch.token is not None:
            with autocast(self._config):
                terms["masked_words"] = self._masked_words(
                    batch.token[matched_R], answering.video[matched_R], generator
                )
        # A mean over pairs counts once per pair, so that batches of several sizes make one mean.
        total = torch.stack(list(terms.values())).sum() * len(source_R)
        return Loss(
            total=total,
            right=int(((logit_R2.argmax(-1) == MATCHED) == matched_R).sum()),
            terms={name: term.item() * len(source_R) for name, term in terms.items()},
        )
