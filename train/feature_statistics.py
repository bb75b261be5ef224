"""Mean and deviation of training features, for the model's standardisation.

Shapes: D = feature width.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from train.features import FeatureReader
from train.model.standardisation import Standardisation
from train.question_set import QuestionSet

_CLIPS_PER_READ = 8
_MOST_SENTENCES = 16384
_WHITENING_FLOOR = 0.01  # of the mean variance: directions below it are noise of few sentences
_SMALLEST_DEVIATION = 1e-4  # a dimension that never changes is left at 0 instead of divided by 0


class _Moments:
    """Running sums of rows and of their squares, in float64."""

    def __init__(self, dim: int) -> None:
        self.count = 0
        self.sum_D = np.zeros(dim)
        self.squares_D = np.zeros(dim)

    def add(self, features: NDArray[np.float16]) -> None:
        """Count features [..., D]."""
        rows = features.reshape(-1, features.shape[-1]).astype(np.float64)
        self.count += len(rows)
        self.sum_D += rows.sum(0)
        self.squares_D += np.square(rows).sum(0)

    def mean(self) -> torch.Tensor:
        if not self.count:  # a store of one vector a frame has no patches
            return torch.zeros(len(self.sum_D))
        return torch.from_numpy(self.sum_D / self.count)

    def std(self) -> torch.Tensor:
        if not self.count:
            return torch.ones(len(self.sum_D))
        variance_D = self.squares_D / self.count - np.square(self.sum_D / self.count)
        return torch.from_numpy(np.sqrt(variance_D.clip(0)).clip(_SMALLEST_DEVIATION))


@torch.no_grad()
def fit_standardisation(
    model: nn.Module, reader: FeatureReader, questions: QuestionSet, clips: int, seed: int
) -> None:
    """Set the model's standardisation from training clips and questions alone.

    Args:
        model: any model with a `Standardisation` inside; its buffers are filled in place.
        reader: the features.
        questions: the training questions; their clips are the sample's population.
        clips: the most clips read; more are sampled by `seed`.
        seed: of that sample.
    """
    generator = np.random.default_rng(seed)
    names = questions.clip_ids
    chosen = [names[row] for row in sorted(generator.permutation(len(names))[:clips])]
    cls, patch = _Moments(reader.identity.dim), _Moments(reader.identity.dim)
    for start in range(0, len(chosen), _CLIPS_PER_READ):
        part = chosen[start : start + _CLIPS_PER_READ]
        cls.add(reader.read_cls(part))
        patch.add(reader.read_patches(part))
    asked = np.sort(generator.permutation(len(questions))[:_MOST_SENTENCES])
    text_SD = questions.text_features(questions.pairs(asked).texts).astype(np.float64)
    for module in model.modules():
        if isinstance(module, Standardisation):
            module.cls_mean.copy_(cls.mean())
            module.cls_std.copy_(cls.std())
            module.patch_mean.copy_(patch.mean())
            module.patch_std.copy_(patch.std())
            module.text_mean.copy_(torch.from_numpy(text_SD.mean(0)))
            if module.text_whitening is not None:
                module.text_whitening.copy_(torch.from_numpy(_whitening(text_SD)))


def _whitening(rows_SD: NDArray[np.float64]) -> NDArray[np.float64]:
    """[D, D], symmetric: the inverse root of the covariance, its small eigenvalues lifted."""
    centred_SD = rows_SD - rows_SD.mean(0)
    variance_D, axis_DD = np.linalg.eigh(centred_SD.T @ centred_SD / len(rows_SD))
    lifted_D = variance_D.clip(0) + _WHITENING_FLOOR * variance_D.mean()
    # Sentences that are all the same have no variance to whiten by.
    root_D = np.sqrt(lifted_D) if lifted_D.all() else np.ones_like(lifted_D)
    whitening_DD: NDArray[np.float64] = (axis_DD / root_D) @ axis_DD.T
    return whitening_DD
