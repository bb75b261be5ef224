"""Our choice, not the paper's: centre and scale the frozen features before the model sees them.

Shapes: D = feature width.
"""

import torch
from torch import Tensor, nn


class Standardisation(nn.Module):
    """Per-dimension mean and deviation of CLS and patches, and the mean of the questions.

    CLIP's features share a large common direction, which makes every cosine of Eq. 2 look alike;
    centred, they rank frames. The statistics are buffers: computed once from training features,
    stored in the checkpoint. They start as the identity map.
    """

    cls_mean: Tensor
    cls_std: Tensor
    patch_mean: Tensor
    patch_std: Tensor
    text_mean: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        for name in ("cls", "patch"):
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_std", torch.ones(dim))
        self.register_buffer("text_mean", torch.zeros(dim))

    def cls(self, v_cls: Tensor) -> Tensor:
        """Standardise CLS features [..., D] of any float type, in the buffers' type."""
        return (v_cls.to(self.cls_mean.dtype) - self.cls_mean) / self.cls_std

    def patch(self, v_patch: Tensor) -> Tensor:
        """Standardise patch features [..., D].

        Applied to the K selected frames only: shifting all N frames by a constant changes every
        entry of the soft weights' gradient by the same amount, which the softmax of Eq. 4 ignores.
        """
        return (v_patch.to(self.patch_mean.dtype) - self.patch_mean) / self.patch_std

    def text(self, t_cls: Tensor) -> Tensor:
        """Centre question features [..., D]."""
        return t_cls.to(self.text_mean.dtype) - self.text_mean
