"""HCRN (Le et al., "Hierarchical Conditional Relation Networks for Video QA", CVPR 2020).

What differs from the original and its public code (thaolmk54/hcrn-videoqa):

- Appearance is CLIP's CLS features (ResNet), motion the differences of neighbouring CLS features
  (ResNeXt-3D), the question t_cls (a bi-LSTM over GloVe), and a section has at most 12 frames (16).
- Subsets of objects are drawn once, two of each size, when the model is built: the original draws
  one of each size anew in every call, so that its test accuracy is random.
- A section hands the mean of its objects to the video level; the original hands on all of them.
- Features, motion and question enter as they are, without the original's linear maps. The readout
  scores [object; question * object] by one linear map, where the original maps both first and has a
  linear map with ELU in between.
- LayerNorm stands where BatchNorm stood.

Shapes: C = clips, Q = questions, N = frames, P = patches, D = feature width, S = sections,
F = frames of a section, O = objects, A = answers.
"""

from itertools import combinations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from train.baselines.classifier import Classifier
from train.config import FeatureSizes, ModelConfig
from train.model.standardisation import Standardisation
from train.model.taken_rows import take_rows
from train.model.video_distill import Answering

_SECTIONS, _FRAMES = 8, 12
_SUBSETS = 2  # of each size; the original's code has 1 (spl_resolution), drawn anew in every call


class ConditionalRelation(nn.Module):
    """CRN unit: relations of subsets of 2 to O - 1 objects, each conditioned on one feature.

    A subset is its mean; with the condition it passes `Linear(2 D -> D)`, ELU, and where the
    condition is the question also a sigmoid gate. One output object per size of subset.
    """

    def __init__(self, dim: int, objects: int, *, gated: bool) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(objects)
        self.subsets: list[list[tuple[int, ...]]] = []
        for size in range(2, objects):
            every = list(combinations(range(objects), size))
            order = torch.randperm(len(every), generator=draw)[:_SUBSETS].tolist()
            self.subsets.append([every[number] for number in sorted(order)])
        self.relate = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in self.subsets)
        self.gate = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in self.subsets if gated)
        self.act = nn.ELU()

    def forward(self, objects_BOD: Tensor, condition_BD: Tensor) -> Tensor:
        """Map O objects [B, O, D] to O - 2 objects."""
        related = []
        for number, subsets in enumerate(self.subsets):
            means = torch.stack([objects_BOD[:, list(s)].mean(1) for s in subsets], dim=1)
            condition = condition_BD.unsqueeze(1).expand_as(means)
            both = torch.cat([means, condition], dim=-1)
            relation = self.act(self.relate[number](both))
            if self.gate:
                relation = relation * torch.sigmoid(self.gate[number](both))
            related.append(relation.mean(1))
        return torch.stack(related, dim=1)


class HCRN(nn.Module):
    """CRNs over the frames of 8 sections, then over the sections; motion first, then the question."""

    reads_patches = False

    def __init__(self, config: ModelConfig, sizes: FeatureSizes, answers: int) -> None:
        super().__init__()
        dim = sizes.dim
        self.frames = min(_FRAMES, max(5, sizes.frames // _SECTIONS))
        self.standardise = Standardisation(dim)
        self.frame_motion = ConditionalRelation(dim, self.frames, gated=False)
        self.frame_question = ConditionalRelation(dim, self.frames - 2, gated=True)
        self.video_lstm = nn.LSTM(dim, dim, batch_first=True)
        self.video_motion = ConditionalRelation(dim, _SECTIONS, gated=False)
        self.video_question = ConditionalRelation(dim, _SECTIONS - 2, gated=True)
        self.attend = nn.Linear(2 * dim, 1)
        self.classifier = Classifier(2 * dim, dim, answers, config.head_dropout)

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
        t_QD = self.standardise.text(t_cls_QD)
        v_CSFD = self._sections(self.standardise.cls(cls_CND))
        motion_CSD = (v_CSFD[:, :, 1:] - v_CSFD[:, :, :-1]).mean(2)
        # What precedes the question is the same for all questions about a clip.
        frame_level = self.frame_motion(
            rearrange(v_CSFD, "c s f d -> (c s) f d"), rearrange(motion_CSD, "c s d -> (c s) d")
        )
        frame_CSOD = rearrange(frame_level, "(c s) o d -> c s o d", s=_SECTIONS)
        asked = repeat(t_QD, "q d -> (q s) d", s=_SECTIONS)
        objects = rearrange(take_rows(frame_CSOD, clip_of_question_Q), "q s o d -> (q s) o d")
        section = self.frame_question(objects, asked).mean(1)
        section_QSD = rearrange(section, "(q s) d -> q s d", s=_SECTIONS)
        _, (last_1CD, _) = self.video_lstm(motion_CSD)
        video = self.video_motion(section_QSD, take_rows(last_1CD[0], clip_of_question_Q))
        video_QOD = self.video_question(video, t_QD)
        both = torch.cat([video_QOD, t_QD.unsqueeze(1) * video_QOD], dim=-1)
        pooled_QD = (self.attend(both).softmax(1) * video_QOD).sum(1)
        logit_QA = self.classifier(torch.cat([t_QD, pooled_QD], dim=-1))
        return Answering.without_frames(logit_QA, cls_CND.shape[1])

    def _sections(self, v_CND: Tensor) -> Tensor:
        """Take S times F frames at equal distances, [C, S, F, D]."""
        wanted = _SECTIONS * self.frames
        place = (torch.arange(wanted, device=v_CND.device) + 0.5) * v_CND.shape[1] / wanted
        return rearrange(v_CND[:, place.long()], "c (s f) d -> c s f d", s=_SECTIONS)
