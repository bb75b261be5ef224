"""Section 4: one of several answers, or of several clips, by the matching head.

Shapes: Q = questions, R = pairs, M = the most choices that a question of the batch has.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train.batches import Batch
from train.config import TrainConfig
from train.model.matching_head import matching_score
from train.objectives.objective import Loss
from train.precision import autocast


class Choice:
    """Cross-entropy over a question's choices, each scored by the logit of being matched.

    The paper says how a choice is answered ("the maximum logit over the VTM head"), not how the
    head is tuned to it: the softmax over the choices is ours.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._config = config

    def __call__(
        self, model: nn.Module, batch: Batch, *, tau: float, generator: torch.Generator
    ) -> Loss:
        """Return the loss of Q choices."""
        with autocast(self._config):
            answering = model(
                batch.cls, batch.patch, batch.text, batch.clip_of_pair, tau=tau, generator=generator
            )
        score_QM = by_question(
            matching_score(answering.logits.float()), batch.question_of_pair, len(batch.answer)
        )
        loss = F.cross_entropy(score_QM, batch.answer, reduction="sum")
        return Loss(total=loss, right=int((score_QM.argmax(-1) == batch.answer).sum()))


def by_question(score_R: Tensor, question_of_pair_R: Tensor, questions: int) -> Tensor:
    """Return the pairs' scores as [Q, M], with -inf where a question has fewer choices.

    Args:
        score_R: scores; the pairs of a question lie side by side, in the order of its choices.
        question_of_pair_R: int64, which question each pair belongs to.
        questions: Q.
    """
    count_Q = torch.bincount(question_of_pair_R, minlength=questions)
    first_Q = count_Q.cumsum(0) - count_Q
    place_R = torch.arange(len(score_R), device=score_R.device) - first_Q[question_of_pair_R]
    score_QM = score_R.new_full((questions, int(count_Q.max())), -torch.inf)
    return score_QM.index_put((question_of_pair_R, place_R), score_R)
