"""Figure 2: VideoDistill from cached features, as the composition of its sections.

Shapes: C = clips, Q = questions (or the pairs of text and clip that choices are made of),
N = frames, K = selected, P = patches, D = width, A = answers, or 2 for the matching head.
"""

from typing import NamedTuple

import torch
from einops import einsum
from torch import Tensor, nn

from train.config import FeatureSizes, ModelConfig
from train.model.answer_head import AnswerHead
from train.model.frame_policy import (
    ClipSimilarityPolicy,
    FrameChoice,
    RandomPolicy,
    UniformPolicy,
)
from train.model.fusion_transformer import FusionTransformer
from train.model.initialisation import initialise
from train.model.masked_word_head import MaskedWordHead
from train.model.matching_head import MatchingHead
from train.model.patch_tokens import PatchTokens
from train.model.refinement import VisionRefinement
from train.model.selection import select_patches
from train.model.sparse_sampling import SparseSampling
from train.model.standardisation import Standardisation
from train.model.taken_rows import take_rows


class Answering(NamedTuple):
    """What a model says about a batch of questions, and where it looked."""

    logits: Tensor
    """[Q, A] answer scores."""
    frame_index: Tensor
    """int64 [Q, K], selected frames; K = 0 for a model that selects none."""
    y_soft: Tensor
    """[Q, K, N] soft weights of Eq. 4."""
    video: Tensor | None = None
    """[Q, D] v*_cls, of a model that has one."""
    text: Tensor | None = None
    """[Q, D] t_cls as that model sees it."""

    @classmethod
    def without_frames(cls, logit_QA: Tensor, frames: int) -> "Answering":
        """What a model says that selects none of the N frames."""
        questions = len(logit_QA)
        index_QK = torch.empty(questions, 0, dtype=torch.int64, device=logit_QA.device)
        return cls(logit_QA, index_QK, logit_QA.new_empty(questions, 0, frames))


class VideoDistill(nn.Module):
    """Thinking, observing, answering: choose frames, refine their patches, classify v*_cls.

    Sections 3.2-3.4 of "Language-aware Visual Semantic Distillation for Video Question Answering"
    (CVPR 2024) on frozen features. Several questions may ask about one clip: the features come
    once per clip, and `clip_of_question_Q` says which clip a question is about.
    """

    reads_patches = True

    def __init__(
        self,
        config: ModelConfig,
        sizes: FeatureSizes,
        answers: int | None,
        *,
        tower: nn.Module | None = None,
        masked_words: MaskedWordHead | None = None,
    ) -> None:
        """Build an untrained model, but for the tower.

        Args:
            config: the options.
            sizes: of the features.
            answers: the number of answer classes; None scores pairs by the matching head.
            tower: text tower to fine-tune, from tokens to (sentence features, word tokens). The
                model then takes tokens wherever it takes sentence features.
            masked_words: head of Eq. 9, which the pretraining objective calls.
        """
        super().__init__()
        config.check_selected(sizes)
        config.check_heads(sizes)
        config.check_text(tower is not None)
        self.standardise = Standardisation(sizes.dim, whiten_text=config.whitened_text)
        self.text = nn.Linear(sizes.dim, sizes.dim) if config.text == "linear" else nn.Identity()
        self.sampler = _build_sampler(config, sizes)
        self.soft = config.selection == "soft"
        self.gradient_frames = config.gradient_frames
        self.refinement = _build_refinement(config, sizes)
        self.head = (
            MatchingHead(sizes.dim)
            if answers is None
            else AnswerHead(sizes.dim, answers, config.head_dropout)
        )
        self.masked_words = masked_words
        initialise(self, config)
        # It comes with its weights, and keeps them.
        self.tower = tower if tower is None else tower.requires_grad_(True)

    def sentence(self, text_Q: Tensor) -> Tensor:
        """Section 3.1: t_cls [Q, D], as it is given, or what the tower inside makes of tokens [Q, T].

        A sentence that several questions have is encoded once.
        """
        if self.tower is None or text_Q.is_floating_point():
            return text_Q
        token_UT, place_Q = text_Q.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        t_cls_UD: Tensor = self.tower(token_UT)[0]
        return take_rows(t_cls_UD, place_Q)

    def choose_frames(
        self,
        cls_CND: Tensor,
        t_cls_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> FrameChoice:
        """Section 3.3: needs the CLS features of all N frames, and no patch."""
        if isinstance(self.sampler, ClipSimilarityPolicy):
            v_cls_CND, t_QD = cls_CND, t_cls_QD
        else:
            v_cls_CND = self.standardise.cls(cls_CND)
            t_QD = self.text(self.standardise.text(t_cls_QD))
        choice: FrameChoice = self.sampler(
            v_cls_CND, t_QD, clip_of_question_Q, tau=tau, generator=generator
        )
        return choice

    def select(
        self,
        choice: FrameChoice,
        patch_CNPD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Eq. 6, or the weighted sums of all frames that Table 4 (c) puts in its place."""
        if self.soft:
            weight_QKN = choice.y_soft
            patch_QNPD = patch_CNPD[clip_of_question_Q].to(weight_QKN.dtype)
            return einsum(weight_QKN, patch_QNPD, "q k n, q n p d -> q k p d")
        return select_patches(
            choice.y_soft,
            choice.frame_index,
            patch_CNPD,
            clip_of_question_Q,
            gradient_frames=self.gradient_frames,
            generator=generator,
        )

    def answer(self, selected_QKPD: Tensor, t_cls_QD: Tensor, choice: FrameChoice) -> Answering:
        """Section 3.4 and the head: logits [Q, A] from the patches of the K selected frames."""
        patch_QKPD = self.standardise.patch(selected_QKPD)
        t_QD = self.text(self.standardise.text(t_cls_QD))
        t_QLD = self.standardise.text_rows(t_cls_QD, t_QD)
        v_star_QD = self.refinement(patch_QKPD, t_QLD, choice.frame_index)
        return Answering(
            self.head(v_star_QD), choice.frame_index, choice.y_soft, video=v_star_QD, text=t_QD
        )

    def forward(
        self,
        cls_CND: Tensor,
        patch_CNPD: Tensor,
        text_Q: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Answering:
        """Answer Q questions about C clips; in evaluation mode without any randomness."""
        t_cls_QD = self.sentence(text_Q)
        choice = self.choose_frames(
            cls_CND, t_cls_QD, clip_of_question_Q, tau=tau, generator=generator
        )
        selected_QKPD = self.select(choice, patch_CNPD, clip_of_question_Q, generator=generator)
        return self.answer(selected_QKPD, t_cls_QD, choice)


def _build_sampler(config: ModelConfig, sizes: FeatureSizes) -> nn.Module:
    """Return the learned sampler of Section 3.3 or one of its rivals that learn nothing."""
    if config.sampler == "uniform":
        return UniformPolicy(sizes.frames, config.selected)
    if config.sampler == "random":
        return RandomPolicy(sizes.frames, config.selected)
    if config.sampler == "clip_similarity":
        return ClipSimilarityPolicy(sizes.frames, config.selected)
    return SparseSampling(
        sizes.dim,
        config.heads,
        sizes.frames,
        config.selected,
        config.sampling_blocks,
        mlp_ratio=config.mlp_ratio,
        skip=config.skip,
        draws=config.draws,
        fusion=config.fusion,
        kernel=config.attention,
    )


def _build_refinement(config: ModelConfig, sizes: FeatureSizes) -> nn.Module:
    """Return the vision refinement of Section 3.4, or what replaces it in Table 4 (a) and (d)."""
    tokens = PatchTokens(
        sizes.dim,
        sizes.frames,
        sizes.patches,
        temporal=config.temporal_on_selected,
        spatial=config.spatial_on_patches,
    )
    if config.refinement == "transformer":
        return FusionTransformer(
            tokens,
            sizes.dim,
            config.heads,
            config.refinement_blocks,
            mlp_ratio=config.mlp_ratio,
            final_norm=config.refinement_final_norm,
            kernel=config.attention,
        )
    return VisionRefinement(
        tokens,
        sizes.dim,
        config.heads,
        config.refinement_blocks,
        mlp_ratio=config.mlp_ratio,
        fusion=config.fusion,
        space_time=config.space_time,
        final_norm=config.refinement_final_norm,
        kernel=config.attention,
    )
