"""One random frame: an MLP on its CLS feature and the question.

Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, A = answers.
"""

import torch
from torch import Tensor, nn

from train.baselines.classifier import Classifier
from train.config import FeatureSizes, ModelConfig
from train.model.standardisation import Standardisation
from train.model.video_distill import Answering

_EVALUATION_SEED = 0


class SingleRandomFrame(nn.Module):
    """What luck alone finds: the frame is drawn blindly; in evaluation always the same one."""

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
        generator: torch.Generator | None = None,
    ) -> Answering:
        """Answer Q questions about C clips."""
        t_QD = self.standardise.text(t_cls_QD)
        questions, frames = len(t_QD), cls_CND.shape[1]
        if not self.training:
            generator = torch.Generator(t_QD.device).manual_seed(_EVALUATION_SEED)
        index_Q = torch.randint(frames, (questions,), generator=generator, device=t_QD.device)
        v_QD = self.standardise.cls(cls_CND)[clip_of_question_Q, index_Q]
        logit_QA = self.classifier(torch.cat([v_QD, t_QD], dim=-1))
        y_soft_QKN = t_QD.new_full((questions, 1, frames), 1 / frames)
        return Answering(logit_QA, index_Q.unsqueeze(1), y_soft_QKN)
