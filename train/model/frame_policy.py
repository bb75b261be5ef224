"""The gradient-free rivals of the learned sampler: which K of N frames, without anything learned.

Shapes: C = clips, Q = questions, N = frames, K = selected, D = model width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EVALUATION_SEED = 0


class FrameChoice(NamedTuple):
    """Which frames each question looks at, and how sure the sampler was."""

    y_soft: Tensor
    """[Q, K, N] soft weights of Eq. 4, rows summing to 1; one-hot where nothing is learned."""
    frame_index: Tensor
    """int64 [Q, K], index of the selected frames (Eq. 5)."""


class UniformPolicy(nn.Module):
    """The mid-points of K equal parts of the N frames, the same for every question."""

    def __init__(self, frames: int, selected: int) -> None:
        super().__init__()
        self.frames = frames
        midpoints = (torch.arange(selected, dtype=torch.float64) + 0.5) * frames / selected
        self.register_buffer("index_K", midpoints.long(), persistent=False)

    def forward(
        self,
        v_cls_CND: Tensor,  # noqa: ARG002 - one interface with SparseSampling
        t_QD: Tensor,
        clip_of_question_Q: Tensor,  # noqa: ARG002
        *,
        tau: float,  # noqa: ARG002
        generator: torch.Generator | None,  # noqa: ARG002
    ) -> FrameChoice:
        """Return the same K indices for all Q questions."""
        index_K: Tensor = self.get_buffer("index_K")
        index_QK = index_K.expand(t_QD.shape[0], -1)
        return _certain(index_QK, self.frames, t_QD.dtype)


class RandomPolicy(nn.Module):
    """K distinct random frames in time order; in evaluation the draw is the same in every call."""

    def __init__(self, frames: int, selected: int) -> None:
        super().__init__()
        self.frames = frames
        self.selected = selected

    def forward(
        self,
        v_cls_CND: Tensor,  # noqa: ARG002 - one interface with SparseSampling
        t_QD: Tensor,
        clip_of_question_Q: Tensor,  # noqa: ARG002
        *,
        tau: float,  # noqa: ARG002
        generator: torch.Generator | None,
    ) -> FrameChoice:
        """Draw from `generator` in training, from a fixed seed in evaluation."""
        if not self.training:
            generator = torch.Generator(t_QD.device).manual_seed(_EVALUATION_SEED)
        rank = torch.rand(t_QD.shape[0], self.frames, generator=generator, device=t_QD.device)
        index_QK = rank.topk(self.selected, dim=-1).indices.sort(dim=-1).values
        return _certain(index_QK, self.frames, t_QD.dtype)


class ClipSimilarityPolicy(nn.Module):
    """The K distinct frames that frozen CLIP finds most like the question, in time order.

    What the encoder alone can tell; it is given the features as they are in the store, so that
    nothing that is trained moves its choice.
    """

    def __init__(self, frames: int, selected: int) -> None:
        super().__init__()
        self.frames = frames
        self.selected = selected

    def forward(
        self,
        v_cls_CND: Tensor,
        t_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float,  # noqa: ARG002 - one interface with SparseSampling
        generator: torch.Generator | None,  # noqa: ARG002
    ) -> FrameChoice:
        """Return the frames with the largest cosine between CLS feature and sentence feature."""
        frames_CND = F.normalize(v_cls_CND.float(), dim=-1)
        question_QD1 = F.normalize(t_QD.float(), dim=-1).unsqueeze(-1)
        cosine_QN = (frames_CND[clip_of_question_Q] @ question_QD1).squeeze(-1)
        index_QK = cosine_QN.topk(self.selected, dim=-1).indices.sort(dim=-1).values
        return _certain(index_QK, self.frames, t_QD.dtype)


def _certain(index_QK: Tensor, frames: int, text_type: torch.dtype) -> FrameChoice:
    """One-hot weights, never narrower than float32: Eq. 6 gives the patches their type.

    Under autocast the text may be bfloat16, to which the patches would be rounded in training, and
    not where an evaluation reads the selected frames alone.
    """
    y_QKN = F.one_hot(index_QK, frames).to(torch.promote_types(text_type, torch.float32))
    return FrameChoice(y_QKN, index_QK)
