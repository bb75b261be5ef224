"""MIST (Gao et al., "Multi-modal Iterative Spatial-temporal Transformer", CVPR 2023).

What differs from the original: regions are CLIP's own patch tokens, averaged to 4 x 4, instead of 16
crops encoded as images of their own; the text is the one row t_cls; answers are classes of a closed
vocabulary by a linear map instead of dot products with encoded answers. A selection is the top k,
hard and without any draw, and passes its gradient through the probability of what was selected; the
original's k picks are soft sums of all rows under Gumbel noise, in tests too. The second layer
selects by the question as the first has updated it; the original by CLIP's text in both.

Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, S = segments,
F = frames of a segment, R = regions of a frame, A = answers.
"""

from typing import NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional

from train.baselines.encoder_layer import EncoderLayer
from train.config import FeatureSizes, ModelConfig
from train.model.standardisation import Standardisation
from train.model.video_distill import Answering

_SEGMENTS, _FRAMES, _GRID = 8, 4, 4
_TOP_SEGMENTS, _TOP_REGIONS = 2, 12
_LAYERS, _DROPOUT = 2, 0.3


class _Seen(NamedTuple):
    """What the layers look at: one video in coarse and in fine."""

    segments: Tensor
    """[Q, S, D] mean of each segment's frames."""
    regions: Tensor
    """[Q, S, F, R, D] regions of all frames."""


class Selector(nn.Module):
    """Picks the rows most like the question, by learned query and key."""

    def __init__(self, dim: int, top: int) -> None:
        super().__init__()
        self.top = top
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)

    def forward(self, t_BD: Tensor, row_BMD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the index [B, top] of the rows picked, and a factor [B, top] that is 1.

        The factor is what carries the gradient: its value is 1, its derivative that of the
        probability of the row.
        """
        score_BM = torch.einsum("bd,bmd->bm", self.query(t_BD), self.key(row_BMD))
        share_BM = (score_BM.float() * t_BD.shape[-1] ** -0.5).softmax(-1)
        top = share_BM.topk(min(self.top, row_BMD.shape[1]), dim=-1)
        index, order = top.indices.sort(dim=-1)
        share = top.values.gather(1, order)
        return index, 1 + (share - share.detach())


class SpatialTemporalLayer(nn.Module):
    """ISTA: select segments, select regions in their frames, let everything attend to everything."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.segments = Selector(dim, _TOP_SEGMENTS)
        self.regions = Selector(dim, _TOP_REGIONS)
        self.kind_embedding = nn.Parameter(torch.zeros(3, dim))
        self.layers = nn.ModuleList(
            EncoderLayer(dim, heads, 2 * dim, _DROPOUT) for _ in range(_LAYERS)
        )

    def forward(self, t_QD: Tensor, seen: _Seen) -> tuple[Tensor, Tensor, Tensor]:
        """Return the question [Q, D] and segments [Q, S, D] after the layer, and the segments picked."""
        questions, _, frames = seen.regions.shape[:3]
        index_QT, factor_QT = self.segments(t_QD, seen.segments)
        rows = torch.arange(questions, device=t_QD.device).unsqueeze(1)
        picked = seen.regions[rows, index_QT] * factor_QT[..., None, None, None]
        region_BRD = rearrange(picked, "q t f r d -> (q t f) r d").to(t_QD.dtype)
        asked = repeat(t_QD, "q d -> (q n) d", n=index_QT.shape[1] * frames)
        index_BK, factor_BK = self.regions(asked, region_BRD)
        inside = torch.arange(len(region_BRD), device=t_QD.device).unsqueeze(1)
        fine = region_BRD[inside, index_BK] * factor_BK.unsqueeze(-1).to(t_QD.dtype)
        fine = rearrange(fine, "(q n) k d -> q (n k) d", q=questions)
        kinds = self.kind_embedding
        x = torch.cat(
            [t_QD.unsqueeze(1) + kinds[0], seen.segments + kinds[1], fine + kinds[2]], dim=1
        )
        for layer in self.layers:
            x = layer(x)
        return x[:, 0], x[:, 1 : 1 + seen.segments.shape[1]], index_QT


class MIST(nn.Module):
    """Two ISTA layers over 32 frames in 8 segments; the sum of their first tokens is classified."""

    reads_patches = True

    def __init__(self, config: ModelConfig, sizes: FeatureSizes, answers: int) -> None:
        super().__init__()
        config.check_heads(sizes)
        self.standardise = Standardisation(sizes.dim)
        self.time_embedding = nn.Parameter(torch.zeros(_SEGMENTS, sizes.dim))
        self.layers = nn.ModuleList(
            SpatialTemporalLayer(sizes.dim, config.heads) for _ in range(_LAYERS)
        )
        self.dropout = nn.Dropout(config.head_dropout)
        self.answer = nn.Linear(sizes.dim, answers)

    def forward(
        self,
        cls_CND: Tensor,
        patch_CNPD: Tensor,
        t_cls_QD: Tensor,
        clip_of_question_Q: Tensor,
        *,
        tau: float = 1.0,  # noqa: ARG002 - one interface with VideoDistill
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Answering:
        """Answer Q questions about C clips."""
        frames = cls_CND.shape[1]
        place = (torch.arange(_SEGMENTS * _FRAMES) + 0.5) * frames / (_SEGMENTS * _FRAMES)
        index = place.long().to(cls_CND.device)
        seen = self._seen(cls_CND[:, index], patch_CNPD[:, index], clip_of_question_Q)
        t_QD = self.standardise.text(t_cls_QD)
        total, picked = torch.zeros_like(t_QD), []
        for layer in self.layers:
            t_QD, segment_QSD, index_QT = layer(t_QD, seen)
            seen = seen._replace(segments=segment_QSD)
            total = total + t_QD
            picked.append(index_QT)
        logit_QA = self.answer(self.dropout(total))
        looked_at = rearrange(index, "(s f) -> s f", f=_FRAMES)[picked[-1]].flatten(1)
        y_soft_QKN = functional.one_hot(looked_at, frames).to(t_QD.dtype)
        return Answering(logit_QA, looked_at, y_soft_QKN)

    def _seen(self, cls_CND: Tensor, patch_CNPD: Tensor, clip_of_question_Q: Tensor) -> _Seen:
        """Segments and regions of 32 frames, for every question."""
        v_CND = functional.normalize(self.standardise.cls(cls_CND), dim=-1)
        segment_CSD = rearrange(v_CND, "c (s f) d -> c s f d", f=_FRAMES).mean(2)
        region_CSFRD = rearrange(
            pool_regions(self.standardise.patch(patch_CNPD)),
            "c (s f) r d -> c s f r d",
            f=_FRAMES,
        )
        segment_QSD = segment_CSD[clip_of_question_Q] + self.time_embedding
        return _Seen(segment_QSD, region_CSFRD[clip_of_question_Q])


def pool_regions(patch_CNPD: Tensor) -> Tensor:
    """Average a square grid of P patches to 4 x 4 regions; a smaller or other grid stays as it is."""
    patches = patch_CNPD.shape[2]
    side = round(patches**0.5)
    if side * side != patches or side <= _GRID:
        return patch_CNPD
    grid = rearrange(patch_CNPD, "c n (h w) d -> (c n) d h w", h=side)
    pooled = functional.adaptive_avg_pool2d(grid, _GRID)
    return rearrange(pooled, "(c n) d h w -> c n (h w) d", c=len(patch_CNPD))
