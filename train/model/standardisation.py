"""Our choice, not the paper's: centre and scale the frozen features before the model sees them.

Shapes: D = feature width.
"""

import torch
from torch import Tensor, nn


class Standardisation(nn.Module):
    """Per-dimension mean and deviation of CLS and patches; mean, and whitening, of the questions.

    CLIP's features share a large common direction, which makes every cosine of Eq. 2 look alike;
    centred, they rank frames. The statistics are buffers: computed once from training features,
    stored in the checkpoint. They start as the identity map.
    """

    cls_mean: Tensor
    cls_std: Tensor
    patch_mean: Tensor
    patch_std: Tensor
    text_mean: Tensor
    text_whitening: Tensor | None

    def __init__(self, dim: int, *, whiten_text: bool = False) -> None:
        super().__init__()
        for name in ("cls", "patch"):
            self.register_buffer(f"{name}_mean", torch.zeros(dim))
            self.register_buffer(f"{name}_std", torch.ones(dim))
        self.register_buffer("text_mean", torch.zeros(dim))
        self.register_buffer("text_whitening", torch.eye(dim) if whiten_text else None)

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

    def text_rows(self, t_cls: Tensor, t_QD: Tensor) -> Tensor:
        r"""What the gates of the refinement compare patches with.

        Args:
            t_cls: [Q, D] question features as they come.
            t_QD: the same as the model sees them.

        Returns:
            `t_QD`, or [Q, 2, D] with $\Sigma^{-1/2}(t_{cls} - \mu)$ as a second row: a frozen text tower
            puts questions that differ in a word side by side, and whitening takes them apart.
        """
        if self.text_whitening is None:
            return t_QD
        return torch.stack([t_QD, self.text(t_cls) @ self.text_whitening], dim=1)
