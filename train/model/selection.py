"""Section 3.3, Eq. 5-6: apply the one-hot mask to the patches without multiplying by N frames.

Shapes: C = clips, Q = questions, N = frames, K = selected, P = patches, D = feature width.
"""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


class _StraightThroughGather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives the context dynamic attributes
        y_soft_QKN: Tensor,
        index_QK: Tensor,
        patch_CNPD: Tensor,
        clip_of_question_Q: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(patch_CNPD, clip_of_question_Q)
        ctx.soft_dtype = y_soft_QKN.dtype
        return patch_CNPD[clip_of_question_Q[:, None], index_QK].to(y_soft_QKN.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (grad_QKPD,) = grads
        patch_CNPD, clip_of_question_Q = ctx.saved_tensors  # type: ignore[attr-defined]
        wide = torch.promote_types(grad_QKPD.dtype, torch.float32)
        grad_QKF = rearrange(grad_QKPD, "q k p d -> q k (p d)").to(wide)
        out_QKN = grad_QKF.new_empty(*grad_QKF.shape[:2], patch_CNPD.shape[1])
        with torch.autocast(grad_QKPD.device.type, enabled=False):
            for clip in clip_of_question_Q.unique().tolist():
                # One clip at a time: its patches are widened once, never copied per question.
                asks = clip_of_question_Q == clip
                frames_NF = rearrange(patch_CNPD[clip], "n p d -> n (p d)").to(wide)
                out_QKN[asks] = grad_QKF[asks] @ frames_NF.mT
        return out_QKN.to(ctx.soft_dtype), None, None, None  # type: ignore[attr-defined]


def select_patches(
    y_soft_QKN: Tensor, index_QK: Tensor, patch_CNPD: Tensor, clip_of_question_Q: Tensor
) -> Tensor:
    r"""Return $mask \cdot v_{patch}$ of Eq. 6 as a gather with the exact straight-through gradient.

    With $mask^k = y^k_{hard} + y^k_{soft} - \mathrm{sg}(y^k_{soft})$ the value of
    $v^K_{patch}[k] = \sum_n mask^k_n\, v_{patch}[n]$ is the selected frame, and

    .. math::
        \frac{\partial \mathcal L}{\partial y^k_{soft,n}} =
        \left\langle \frac{\partial \mathcal L}{\partial v^K_{patch}[k]},\ v_{patch}[n] \right\rangle
        \quad \text{for all } n.

    So the forward copies K frames, and only the backward touches all N, accumulating in float32
    (or wider). The patches are frozen features: no gradient flows into them.

    Args:
        y_soft_QKN: soft weights (Eq. 4), float.
        index_QK: int64, the frame of each one-hot row (Eq. 5).
        patch_CNPD: patches of the clips, any float type.
        clip_of_question_Q: int64, which clip each question asks about.

    Returns:
        [Q, K, P, D] in the dtype of `y_soft_QKN`.
    """
    selected: Tensor = _StraightThroughGather.apply(
        y_soft_QKN, index_QK, patch_CNPD, clip_of_question_Q
    )
    return selected
