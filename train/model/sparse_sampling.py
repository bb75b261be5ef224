"""Section 3.3: differentiable sparse sampling, which picks K question-related frames out of N.

Shapes: C = clips, Q = questions, N = frames, K = selected, D = model width.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from train.model.attention import AttentionKernel
from train.model.frame_policy import FrameChoice
from train.model.frame_sampling_block import FrameSamplingBlock, SkipForm
from train.model.fusion import Fusion

Draws = Literal["independent", "without_replacement"]

_SMALLEST_DRAW = torch.finfo(
    torch.float32
).tiny  # an exponential draw of 0 would be an infinite gumbel


class SparseSampling(nn.Module):
    r"""L FS-Blocks on $v_{cls} + T_f$, then K Gumbel-softmax draws over the N frames (Eq. 4-5).

    .. math::
        y^k_{soft} = \mathrm{softmax}\left(\frac{x^k + gumbels}{\tau}\right) \tag{4}

        y^k_{hard} = \mathrm{onehot}(\mathrm{argmax}(y^k_{soft})) \tag{5}

    with $x^k \in \mathbb R^N$ the k-th row of $W_s(v^L_{cls})$. Eq. 6 is `select_patches`.
    Gumbel noise is drawn in training only; evaluation is the deterministic argmax.

    `draws="independent"` is the paper's: K independent rows, so that one frame may be picked
    twice. `"without_replacement"` lets row k choose only among the frames that rows 1..k-1 left.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        frames: int,
        selected: int,
        blocks: int,
        *,
        mlp_ratio: int = 4,
        skip: SkipForm = "frozen",
        draws: Draws = "independent",
        fusion: Fusion = "la_gate",
        kernel: AttentionKernel = "auto",
    ) -> None:
        super().__init__()
        self.draws: Draws = draws
        self.temporal_embedding = nn.Parameter(torch.zeros(frames, dim))
        self.blocks = nn.ModuleList(
            FrameSamplingBlock(
                dim, heads, mlp_ratio=mlp_ratio, skip=skip, fusion=fusion, kernel=kernel
            )
            for _ in range(blocks)
        )
        self.w_s = nn.Linear(dim, selected)

    def logits(self, v_cls_CND: Tensor, t_QD: Tensor, clip_of_question_Q: Tensor) -> Tensor:
        """Return x of Eq. 4, [Q, K, N] in float32 or wider: how much slot k wants frame n."""
        # Features carry no gradient, so gathering them first keeps the backward free of a scatter,
        # whose order of additions would differ between runs.
        x_QND = v_cls_CND[clip_of_question_Q] + self.temporal_embedding
        for block in self.blocks:
            x_QND = block(x_QND, t_QD)
        logit_QKN: Tensor = rearrange(self.w_s(x_QND), "q n k -> q k n")
        return logit_QKN.to(torch.promote_types(logit_QKN.dtype, torch.float32))

    def forward(
        self,
        v_cls_CND: Tensor,
        t_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float,
        generator: torch.Generator | None,
    ) -> FrameChoice:
        """Choose K frames for each question.

        Args:
            v_cls_CND: CLS features of the clips.
            t_QD: t_cls of the questions.
            clip_of_question_Q: int64, which clip each question asks about.
            tau: temperature of Eq. 4, set by the caller's schedule.
            generator: source of the gumbel noise in training; None is torch's global one.
        """
        logit_QKN = self.logits(v_cls_CND, t_QD, clip_of_question_Q)
        if self.training:
            logit_QKN = logit_QKN + gumbel_like(logit_QKN, generator)
        if self.draws == "without_replacement":
            return _draw_without_replacement(logit_QKN, tau)
        y_soft_QKN = (logit_QKN / tau).softmax(-1)
        return FrameChoice(y_soft_QKN, y_soft_QKN.argmax(-1))


def gumbel_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gumbel noise with location 0 and scale 1: minus the log of a unit exponential draw."""
    draw = torch.empty_like(x, requires_grad=False).exponential_(generator=generator)
    return -draw.clamp_min(_SMALLEST_DRAW).log()


def _draw_without_replacement(logit_QKN: Tensor, tau: float) -> FrameChoice:
    """Rows choose in order; a frame that an earlier row took has no weight in the later ones."""
    taken_QN = torch.zeros_like(logit_QKN[:, 0], dtype=torch.bool)
    soft: list[Tensor] = []
    index: list[Tensor] = []
    for row_QN in logit_QKN.unbind(1):
        y_soft_QN = (row_QN / tau).masked_fill(taken_QN, -torch.inf).softmax(-1)
        index_Q = y_soft_QN.argmax(-1)
        taken_QN = taken_QN | F.one_hot(index_Q, row_QN.shape[-1]).bool()
        soft.append(y_soft_QN)
        index.append(index_Q)
    return FrameChoice(torch.stack(soft, 1), torch.stack(index, 1))
