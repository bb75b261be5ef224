"""PSAC (Li et al., "Beyond RNNs: Positional Self-Attention with Co-Attention", AAAI 2019).

What differs from the original: frames are CLIP's CLS features instead of ResNet's, and the question
is the one row t_cls instead of words and characters, so that of the two directions of co-attention
the one that attends over words has a single key and passes it on.

Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, A = answers.
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn

from train.baselines.classifier import Classifier
from train.baselines.encoder_layer import EncoderLayer
from train.config import FeatureSizes, ModelConfig
from train.model.standardisation import Standardisation
from train.model.taken_rows import take_rows
from train.model.video_distill import Answering

_HIDDEN, _DROPOUT = 1024, 0.15


class PSAC(nn.Module):
    """Positional self-attention over all frames, frames pooled by the question, a classifier."""

    reads_patches = False

    def __init__(self, config: ModelConfig, sizes: FeatureSizes, answers: int) -> None:
        super().__init__()
        config.check_heads(sizes)
        self.standardise = Standardisation(sizes.dim)
        self.register_buffer("position_ND", sinusoids(sizes.frames, sizes.dim), persistent=False)
        self.self_attention = EncoderLayer(sizes.dim, config.heads, 4 * sizes.dim, _DROPOUT)
        self.w_video = nn.Linear(sizes.dim, sizes.dim)
        self.w_text = nn.Linear(sizes.dim, sizes.dim)
        self.classifier = Classifier(2 * sizes.dim, _HIDDEN, answers, config.head_dropout)

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
        v_CND = self.self_attention(self.standardise.cls(cls_CND) + self.get_buffer("position_ND"))
        v_QND, t_QD = take_rows(v_CND, clip_of_question_Q), self.standardise.text(t_cls_QD)
        # Co-attention: the affinity of every frame and the one text row, tanh as in the paper.
        key_QDn = rearrange(self.w_video(v_QND), "q n d -> q d n")
        affinity_QN = torch.tanh(self.w_text(t_QD).unsqueeze(1) @ key_QDn).squeeze(1)
        weight_QN = affinity_QN.softmax(-1)
        pooled_QD = (weight_QN.unsqueeze(1) @ v_QND).squeeze(1)
        logit_QA = self.classifier(torch.cat([pooled_QD, t_QD], dim=-1))
        return Answering.without_frames(logit_QA, cls_CND.shape[1])


def sinusoids(length: int, width: int) -> Tensor:
    """Return the positional encoding [length, width] of Vaswani et al. (2017), §3.5."""
    position = torch.arange(length, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * (-math.log(1e4) / width))
    encoded = torch.zeros(length, width)
    encoded[:, 0::2] = torch.sin(position * rate)
    encoded[:, 1::2] = torch.cos(position * rate)[:, : width // 2]
    return encoded
