"""Section 3.3, Eq. 5-6: apply the one-hot mask to the patches without multiplying by N frames.

Shapes: C = clips, Q = questions, N = frames, K = selected, P = patches, D = feature width,
F = P * D, R = the K rows of every question about one clip, M = sampled frames.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

_PIECE_BYTES = {"cpu": 6 << 20}  # stays in the processor's cache
_PIECE_BYTES_ELSEWHERE = 64 << 20


class _StraightThroughGather(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch gives the context dynamic attributes
        y_soft_QKN: Tensor,
        index_QK: Tensor,
        patch_CNPD: Tensor,
        clip_of_question_Q: Tensor,
        weight_CN: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(patch_CNPD, clip_of_question_Q, weight_CN)
        ctx.soft_dtype = y_soft_QKN.dtype
        out_QKPD = y_soft_QKN.new_empty(*index_QK.shape, *patch_CNPD.shape[2:])
        a_question = 8 * out_QKPD[0].numel() if len(out_QKPD) else 0  # float16, float32, and out
        for some in _pieces(len(out_QKPD), a_question, patch_CNPD.device):
            clip_Q1 = clip_of_question_Q[some].unsqueeze(1)
            out_QKPD[some] = _converted(patch_CNPD[clip_Q1, index_QK[some]], out_QKPD.dtype)
        return out_QKPD

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        patch_CNPD, clip_of_question_Q, weight_CN = ctx.saved_tensors  # type: ignore[attr-defined]
        grad_QKF = grads[0].flatten(2)
        wide = torch.promote_types(grad_QKF.dtype, torch.float32)
        out_QKN = grad_QKF.new_zeros(*grad_QKF.shape[:2], patch_CNPD.shape[1], dtype=wide)
        with torch.autocast(grad_QKF.device.type, enabled=False):
            for clip in clip_of_question_Q.unique().tolist():
                asking = (clip_of_question_Q == clip).nonzero().squeeze(1)
                frame_NF = patch_CNPD[clip].flatten(1)
                if weight_CN is None:
                    out_QKN[asking] = _products(grad_QKF, asking, frame_NF, wide)
                else:
                    kept = weight_CN[clip].nonzero().squeeze(1)
                    products = _products(grad_QKF, asking, frame_NF, wide, kept)
                    out_QKN[asking.unsqueeze(1), :, kept] = (
                        products * weight_CN[clip, kept]
                    ).movedim(-1, 1)
        return out_QKN.to(ctx.soft_dtype), None, None, None, None  # type: ignore[attr-defined]


def _products(
    grad_QKF: Tensor,
    asking: Tensor,
    frame_NF: Tensor,
    wide: torch.dtype,
    kept: Tensor | None = None,
) -> Tensor:
    """Gradient times frame of the questions that ask about a clip and of its kept frames.

    All questions of the clip share one product, piece by piece along the patches, so that neither
    its frames nor the gradients are ever widened, or copied, as a whole. bfloat16 gradients are
    multiplied as such, which a piece accumulates in float32.
    """
    factor = grad_QKF.dtype if grad_QKF.dtype == torch.bfloat16 else wide
    frames = len(frame_NF) if kept is None else len(kept)
    rows = len(asking) * grad_QKF.shape[1]
    out_NR = grad_QKF.new_zeros(frames, rows, dtype=wide)
    a_column = (rows + frames) * out_NR.element_size()
    for columns in _pieces(frame_NF.shape[1], a_column, frame_NF.device):
        frame = frame_NF[:, columns] if kept is None else frame_NF[kept, columns]
        grad = grad_QKF[asking, :, columns].flatten(0, 1)
        # This way round: BLAS is a third faster with the few rows of the gradient on the right.
        out_NR += _converted(frame, factor) @ grad.to(factor).mT
    return out_NR.mT.reshape(len(asking), -1, frames)


def _converted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in another type."""
    # A CPU converts float16 to bfloat16 value by value, but each to and from float32 in vectors.
    return x.float().to(dtype) if dtype == torch.bfloat16 else x.to(dtype)


def _pieces(length: int, bytes_each: int, device: torch.device) -> list[slice]:
    """Cut 0..length into slices whose members take a small number of bytes together."""
    room = _PIECE_BYTES.get(device.type, _PIECE_BYTES_ELSEWHERE)
    step = max(1, room // max(1, bytes_each))
    return [slice(start, start + step) for start in range(0, length, step)]


def select_patches(
    y_soft_QKN: Tensor,
    index_QK: Tensor,
    patch_CNPD: Tensor,
    clip_of_question_Q: Tensor,
    *,
    gradient_frames: int = 0,
    generator: torch.Generator | None = None,
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
        gradient_frames: M, the frames besides the selected ones that the gradient is computed for,
            drawn for every clip; an unbiased estimate at a cost of the selected and M frames in
            place of N (docs/model-speed.md). 0 is the exact gradient.
        generator: source of these draws; None is torch's global one.

    Returns:
        [Q, K, P, D] in the dtype of `y_soft_QKN`.
    """
    weight_CN = None
    if gradient_frames and y_soft_QKN.requires_grad:
        weight_CN = frame_weights(
            y_soft_QKN.detach(),
            index_QK,
            clip_of_question_Q,
            clips=len(patch_CNPD),
            sampled=gradient_frames,
            generator=generator,
        )
    selected: Tensor = _StraightThroughGather.apply(
        y_soft_QKN, index_QK, patch_CNPD, clip_of_question_Q, weight_CN
    )
    return selected


def frame_weights(
    y_soft_QKN: Tensor,
    index_QK: Tensor,
    clip_of_question_Q: Tensor,
    *,
    clips: int,
    sampled: int,
    generator: torch.Generator | None,
) -> Tensor:
    r"""Draw the frames that a sampled gradient is computed for, and what they count.

    The frames that any question selected count 1. Of a clip's others M are drawn with replacement
    from $p_n \propto \frac12 \overline{y}_n + \frac12 \overline{1}$, the mean soft weight of its
    questions beside a uniform part, and a frame that was drawn $c_n$ times counts
    $c_n / (M p_n)$, which is 1 in expectation: the gradient is unbiased. Frames with much soft
    weight are those whose gradient the softmax of Eq. 4 lets through.

    Returns:
        [C, N] in the dtype of `y_soft_QKN`, 0 for frames that are left out.
    """
    frames = y_soft_QKN.shape[-1]
    mean_CN = y_soft_QKN.new_zeros(clips, frames).index_add_(
        0, clip_of_question_Q, y_soft_QKN.mean(1)
    )
    selected_CN = torch.zeros_like(mean_CN, dtype=torch.bool)
    selected_CN[clip_of_question_Q.unsqueeze(1), index_QK] = True
    soft_CN = mean_CN.masked_fill(selected_CN, 0.0)
    even_CN = (~selected_CN).to(mean_CN.dtype)
    proposal_CN = _normalised(_normalised(soft_CN) + _normalised(even_CN))
    # Where every frame is selected there is nothing to draw from; what is drawn there is put back.
    drawable_CN = torch.where(selected_CN.all(1, keepdim=True), 1.0, proposal_CN)
    drawn_CM = drawable_CN.multinomial(sampled, replacement=True, generator=generator)
    count_CN = torch.zeros_like(mean_CN).scatter_add_(
        1, drawn_CM, torch.ones_like(drawn_CM, dtype=mean_CN.dtype)
    )
    weight_CN = count_CN / (sampled * proposal_CN)
    return weight_CN.masked_fill(selected_CN, 1.0)


def _normalised(x_CN: Tensor) -> Tensor:
    """Rows that sum to 1, but for those that are all 0."""
    return x_CN / x_CN.sum(1, keepdim=True).clamp_min(torch.finfo(x_CN.dtype).tiny)
