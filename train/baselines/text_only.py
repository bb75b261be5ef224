"""A classifier that never sees the video: what the questions alone give away.

Stands where EgoTaskQA's BERT baseline stands (Table 3); frozen CLIP text features take BERT's place.
Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, A = answers.
"""

import torch
from torch import Tensor, nn

from train.baselines.classifier import Classifier
from train.config import FeatureSizes, ModelConfig
from train.model.standardisation import Standardisation
from train.model.video_distill import Answering


class TextOnly(nn.Module):
    """An MLP on t_cls."""

    reads_patches = False

    def __init__(self, config: ModelConfig, sizes: FeatureSizes, answers: int) -> None:
        super().__init__()
        self.standardise = Standardisation(sizes.dim)
        self.classifier = Classifier(sizes.dim, 4 * sizes.dim, answers, config.head_dropout)

    def forward(
        self,
        cls_CND: Tensor,
        patch_CNPD: Tensor,  # noqa: ARG002 - one interface with VideoDistill
        t_cls_QD: Tensor,
        clip_of_question_Q: Tensor,  # noqa: ARG002
        *,
        tau: float = 1.0,  # noqa: ARG002
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Answering:
        """Answer Q questions without looking."""
        t_QD = self.standardise.text(t_cls_QD)
        return Answering.without_frames(self.classifier(t_QD), cls_CND.shape[1])
