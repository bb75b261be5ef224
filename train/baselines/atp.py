"""ATP and Temp[ATP] (Buch et al., "Revisiting the 'Video' in Video-Language Understanding", CVPR 2022).

What differs from the original: the answer is a class of a closed vocabulary by an MLP on
[chosen frame; question], not the candidate closest to the frame by raw cosine; Temp[ATP] has no
public code and is written from the papers that describe it. The selector's sizes are the original's.

Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, S = sections of a clip,
F = frames of a section, W = the selector's width, A = answers.
"""

import torch
from einops import einsum, rearrange
from torch import Tensor, nn

from train.baselines.classifier import Classifier
from train.baselines.encoder_layer import EncoderLayer
from train.config import FeatureSizes, ModelConfig
from train.model.sparse_sampling import gumbel_like
from train.model.standardisation import Standardisation
from train.model.video_distill import Answering

_WIDTH, _LAYERS, _HEADS, _DROPOUT = 128, 2, 2, 0.1
_SECTIONS = 8


class AtemporalProbe(nn.Module):
    """Chooses one frame of a set by an encoder without positions: the set has no order.

    `Linear(D -> 128)` of question and frames, an embedding of the modality, a two-layer two-head
    encoder, one logit per frame; a hard Gumbel-softmax draw in training, the argmax in evaluation.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, _WIDTH)
        self.modality_embedding = nn.Parameter(torch.randn(2, _WIDTH))
        self.layers = nn.ModuleList(
            EncoderLayer(_WIDTH, _HEADS, _WIDTH, _DROPOUT) for _ in range(_LAYERS)
        )
        self.score = nn.Linear(_WIDTH, 1)

    def forward(
        self, v_QND: Tensor, t_QD: Tensor, tau: float, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return soft weights [Q, N] and the index [Q] of the frame chosen for each question."""
        tokens = torch.cat([self.project(t_QD).unsqueeze(1), self.project(v_QND)], dim=1)
        text_W, frame_W = self.modality_embedding.unbind()
        tokens = tokens * _WIDTH**0.5
        tokens = tokens + torch.cat([text_W[None], frame_W.expand(v_QND.shape[1], -1)])
        for layer in self.layers:
            tokens = layer(tokens)
        logit_QN: Tensor = self.score(tokens[:, 1:]).squeeze(-1).float()
        if self.training:
            logit_QN = logit_QN + gumbel_like(logit_QN, generator)
        y_soft_QN = (logit_QN / tau).softmax(-1)
        return y_soft_QN, y_soft_QN.argmax(-1)


class ATP(nn.Module):
    """Answers from the one frame that the probe chooses."""

    reads_patches = False

    def __init__(self, config: ModelConfig, sizes: FeatureSizes, answers: int) -> None:
        super().__init__()
        self.standardise = Standardisation(sizes.dim)
        self.probe = AtemporalProbe(sizes.dim)
        self.classifier = Classifier(2 * sizes.dim, 4 * sizes.dim, answers, config.head_dropout)

    def forward(
        self,
        cls_CND: Tensor,
        patch_CNPD: Tensor,  # noqa: ARG002 - one interface with VideoDistill
        t_cls_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Answering:
        """Answer Q questions about C clips."""
        v_QND = self.standardise.cls(cls_CND)[clip_of_question_Q]
        t_QD = self.standardise.text(t_cls_QD)
        y_soft_QN, index_Q = self.probe(v_QND, t_QD, tau, generator)
        chosen_QD = take_straight_through(y_soft_QN, index_Q, v_QND)
        logit_QA = self.classifier(torch.cat([chosen_QD, t_QD], dim=-1))
        return Answering(logit_QA, index_Q.unsqueeze(1), y_soft_QN.unsqueeze(1))


class TemporalATP(nn.Module):
    """Temp[ATP]: ATP chooses a frame in each of 8 sections, a small transformer orders the picks."""

    reads_patches = False

    def __init__(self, config: ModelConfig, sizes: FeatureSizes, answers: int) -> None:
        super().__init__()
        config.check_heads(sizes)
        self.sections = min(_SECTIONS, sizes.frames)
        self.standardise = Standardisation(sizes.dim)
        self.probe = AtemporalProbe(sizes.dim)
        self.order_embedding = nn.Parameter(torch.zeros(self.sections + 1, sizes.dim))
        self.layers = nn.ModuleList(
            EncoderLayer(sizes.dim, config.heads, 4 * sizes.dim, _DROPOUT) for _ in range(_LAYERS)
        )
        self.classifier = Classifier(2 * sizes.dim, 4 * sizes.dim, answers, config.head_dropout)

    def forward(
        self,
        cls_CND: Tensor,
        patch_CNPD: Tensor,  # noqa: ARG002 - one interface with VideoDistill
        t_cls_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Answering:
        """Answer Q questions about C clips; frames beyond equal sections are not looked at."""
        v_QND = self.standardise.cls(cls_CND)[clip_of_question_Q]
        t_QD = self.standardise.text(t_cls_QD)
        questions, frames = v_QND.shape[:2]
        length = frames // self.sections
        v_QSFD = rearrange(v_QND[:, : length * self.sections], "q (s f) d -> (q s) f d", f=length)
        asked = t_QD.repeat_interleave(self.sections, dim=0)
        y_soft, index = self.probe(v_QSFD, asked, tau, generator)
        picks_QSD = rearrange(
            take_straight_through(y_soft, index, v_QSFD), "(q s) d -> q s d", q=questions
        )
        x = torch.cat([t_QD.unsqueeze(1), picks_QSD], dim=1) + self.order_embedding
        for layer in self.layers:
            x = layer(x)
        logit_QA = self.classifier(torch.cat([x[:, 0], x[:, 1:].mean(1)], dim=-1))
        first_S = torch.arange(self.sections, device=index.device) * length
        index_QS = rearrange(index, "(q s) -> q s", q=questions) + first_S
        return Answering(logit_QA, index_QS, self._in_the_whole(y_soft, questions, frames))

    def _in_the_whole(self, y_soft: Tensor, questions: int, frames: int) -> Tensor:
        """Put the weights of each section at its place among all frames, [Q, S, N]."""
        length = y_soft.shape[1]
        whole = y_soft.new_zeros(questions, self.sections, frames)
        for section, weights_QF in enumerate(rearrange(y_soft, "(q s) f -> s q f", q=questions)):
            whole[:, section, section * length : (section + 1) * length] = weights_QF
        return whole


def take_straight_through(y_soft_QN: Tensor, index_Q: Tensor, v_QND: Tensor) -> Tensor:
    """Return the chosen rows [Q, D]; their gradient reaches all soft weights, as in Eq. 6."""
    hard_QN = torch.zeros_like(y_soft_QN).scatter(1, index_Q.unsqueeze(1), 1.0)
    mask_QN = hard_QN + y_soft_QN - y_soft_QN.detach()
    return einsum(mask_QN, v_QND.to(mask_QN.dtype), "q n, q n d -> q d")
