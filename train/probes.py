"""The simple rivals that a VideoQA model has to beat, on the same features and questions.

Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, A = answers.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cache_schema.errors import InputError
from cache_schema.question_table import Question
from train.config import FeatureSizes, ModelConfig
from train.model.standardisation import Standardisation
from train.model.video_distill import Answering
from train.predictions import Prediction

_EVALUATION_SEED = 0
_TYPE_TAG = "type:"


class FrameProbe(nn.Module):
    """An MLP on [one vector of the clip; t_cls]: no sampler, no patches, no gate.

    `single=False` uses the mean of the N CLS features, `single=True` one random frame's; in
    evaluation the draw is the same in every call.
    """

    reads_patches = False

    def __init__(
        self, config: ModelConfig, sizes: FeatureSizes, answers: int, *, single: bool
    ) -> None:
        super().__init__()
        self.single = single
        self.standardise = Standardisation(sizes.dim)
        self.classifier = nn.Sequential(
            nn.LayerNorm(2 * sizes.dim),
            nn.Linear(2 * sizes.dim, 4 * sizes.dim),
            nn.GELU(),
            nn.Dropout(config.head_dropout),
            nn.Linear(4 * sizes.dim, answers),
        )

    def forward(
        self,
        cls_CND: Tensor,
        patch_CNPD: Tensor,  # noqa: ARG002 - one interface with VideoDistill
        t_cls_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float = 1.0,  # noqa: ARG002
        generator: torch.Generator | None = None,
    ) -> Answering:
        """Answer Q questions about C clips."""
        v_CND = self.standardise.cls(cls_CND)
        t_QD = self.standardise.text(t_cls_QD)
        questions, frames = len(clip_of_question_Q), cls_CND.shape[1]
        index_QK = torch.empty(questions, 0, dtype=torch.int64, device=t_QD.device)
        if self.single:
            if not self.training:
                generator = torch.Generator(t_QD.device).manual_seed(_EVALUATION_SEED)
            index_QK = torch.randint(
                frames, (questions, 1), generator=generator, device=t_QD.device
            )
            v_QD = v_CND[clip_of_question_Q, index_QK[:, 0]]
        else:
            v_QD = v_CND.mean(1)[clip_of_question_Q]
        logit_QA: Tensor = self.classifier(torch.cat([v_QD, t_QD], dim=-1))
        y_soft_QKN = t_QD.new_full((questions, index_QK.shape[1], frames), 1 / frames)
        return Answering(logit_QA, index_QK, y_soft_QKN)


def majority_predictions(
    training: Sequence[Question], questions: Sequence[Question]
) -> list[Prediction]:
    """Answer with the most frequent training answer of the question's `type:` tag.

    Ties go to the first in text order; a type that training never saw gets the most frequent
    answer of all.

    Raises:
        InputError: there are no training questions.
    """
    if not training:
        raise InputError("there are no training questions to count answers of")
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    overall: Counter[str] = Counter()
    for question in training:
        counts[_type_of(question)][question.answer] += 1
        overall[question.answer] += 1
    return [
        Prediction(
            question_id=question.question_id,
            predicted=_most_frequent(counts.get(_type_of(question), overall)),
            answer=question.answer,
        )
        for question in questions
    ]


def _type_of(question: Question) -> str:
    return next((tag for tag in question.tags if tag.startswith(_TYPE_TAG)), "")


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))
