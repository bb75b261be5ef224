import pytest
import torch

from train.model.selection import select_patches


def straight_through_einsum(y_soft, index, patch, clip_of_question):
    """Eq. 5-6 to the letter: a mask over all N frames, multiplied with all their patches."""
    y_hard = torch.nn.functional.one_hot(index, patch.shape[1]).to(y_soft.dtype)
    mask = y_hard + y_soft - y_soft.detach()
    return torch.einsum("qkn,qnpd->qkpd", mask, patch[clip_of_question].to(y_soft.dtype))


CASES = [
    pytest.param([0], 1, id="one question, K=1"),
    pytest.param([0, 1, 2], 2, id="one question a clip"),
    pytest.param([2, 0, 0, 2, 0, 1], 3, id="several questions a clip, mixed order"),
    pytest.param([1, 1], 7, id="K=N, a clip nobody asks about"),
]


@pytest.mark.parametrize(("clip_of_question", "selected"), CASES)
@pytest.mark.parametrize("stored", [torch.float16, torch.float64])
def test_values_and_gradients_equal_the_mask_product(clip_of_question, selected, stored):
    torch.manual_seed(0)
    clip_of_question = torch.tensor(clip_of_question)
    patch = torch.randn(3, 7, 4, 5).to(stored)
    y_soft = torch.randn(len(clip_of_question), selected, 7).double().softmax(-1)
    y_soft.requires_grad_()
    index = y_soft.argmax(-1)
    upstream = torch.randn(len(clip_of_question), selected, 4, 5).double()

    results = []
    for select in (select_patches, straight_through_einsum):
        value = select(y_soft, index, patch, clip_of_question)
        (gradient,) = torch.autograd.grad(value, y_soft, upstream)
        results.append((value, gradient))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])


def test_the_forward_is_a_copy_of_the_stored_patches_bit_for_bit():
    patch = torch.randn(1, 5, 2, 3).half()
    y_soft = torch.rand(1, 2, 5)
    selected = select_patches(y_soft, torch.tensor([[4, 1]]), patch, torch.tensor([0]))
    assert torch.equal(selected[0], patch[0, [4, 1]].float())


def test_gradients_accumulate_in_float32_under_bfloat16_autocast():
    torch.manual_seed(0)
    patch = torch.randn(1, 9, 16, 32).half()
    y_soft = torch.rand(1, 2, 9, requires_grad=True)
    upstream = torch.randn(1, 2, 16, 32)
    with torch.autocast("cpu", torch.bfloat16):
        value = select_patches(y_soft, torch.tensor([[0, 3]]), patch, torch.tensor([0]))
        value.backward(upstream)
    exact = torch.einsum("qkpd,npd->qkn", upstream.double(), patch[0].double())
    torch.testing.assert_close(y_soft.grad.double(), exact, rtol=1e-5, atol=1e-4)


def test_nothing_is_kept_for_a_choice_without_gradient():
    patch = torch.randn(1, 5, 2, 3).half()
    y_soft = torch.rand(1, 2, 5)
    assert not select_patches(
        y_soft, torch.zeros(1, 2, dtype=int), patch, torch.tensor([0])
    ).requires_grad
