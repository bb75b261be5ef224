"""Mean-pooled CLIP: an MLP on the mean of all CLS features and the question.

Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, A = answers.
"""

import torch
from torch import Tensor, nn

from train.baselines.classifier import Classifier
from train.config import FeatureSizes, ModelConfig
from train.model.standardisation import Standardisation
from train.model.video_distill import Answering


class MeanFrame(nn.Module):
    """No sampler, no patches, no gate, no order of frames."""

    reads_patches = False

    def __init__(self, config: ModelConfig, sizes: FeatureSizes, answers: int) -> None:
        super().__init__()
        self.standardise = Standardisation(sizes.dim)
        self.classifier = Classifier(2 * sizes.dim, 4 * sizes.dim, answers, config.head_dropout)

    def forward(
        self,
        cls_CND: Tensor,
        patch_CNPD: Tensor,  # noqa: ARG002 - one interface with VideoDistill
        t_cls_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float = 1.0,  # noqa: ARG002
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Answering:
        """Answer Q questions about C clips."""
        v_QD = self.standardise.cls(cls_CND).mean(1)[clip_of_question_Q]
        t_QD = self.standardise.text(t_cls_QD)
        logit_QA = self.classifier(torch.cat([v_QD, t_QD], dim=-1))
        return Answering.without_frames(logit_QA, cls_CND.shape[1])
