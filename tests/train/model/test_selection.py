import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from train.model.selection import frame_weights, select_patches


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
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("gradient_frames", [0, 2])
def test_gradcheck_of_the_soft_weights(gradient_frames):
    """Against the mask product, whose value moves with the soft weights as the gather's does not."""
    torch.manual_seed(0)
    patch = torch.randn(2, 5, 2, 3).double()
    clip, index = torch.tensor([1, 0, 1]), torch.randint(0, 5, (3, 2))
    y_soft = torch.rand(3, 2, 5).double().requires_grad_()
    upstream = torch.randn(3, 2, 2, 3).double()
    weight = torch.ones(2, 5).double()
    if gradient_frames:
        draw = {"clips": 2, "sampled": 2, "generator": torch.Generator().manual_seed(3)}
        weight = frame_weights(y_soft.detach(), index, clip, **draw)

    def moved(y):
        return torch.einsum("qkn,qn,qnpd,qkpd->", y, weight[clip], patch[clip], upstream)

    assert torch.autograd.gradcheck(moved, (y_soft,))
    (expected,) = torch.autograd.grad(moved(y_soft), y_soft)
    options = {"gradient_frames": gradient_frames, "generator": torch.Generator().manual_seed(3)}
    (actual,) = torch.autograd.grad(
        select_patches(y_soft, index, patch, clip, **options), y_soft, upstream
    )
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_many_pieces_equal_the_exact_ones(dtype):
    """Wide enough for the sums to be taken piece by piece, forward and backward."""
    torch.manual_seed(0)
    patch, clip = torch.randn(2, 30, 64, 512).half(), torch.tensor([0, 1, 0])
    y_soft = torch.randn(3, 16, 30).to(dtype).softmax(-1).requires_grad_()
    index, upstream = y_soft.argmax(-1), torch.randn(3, 16, 64, 512).to(dtype)
    value = select_patches(y_soft, index, patch, clip)
    assert torch.equal(value, patch[clip[:, None], index].to(dtype))
    value.backward(upstream)
    exact = torch.einsum("qkpd,qnpd->qkn", upstream.double(), patch[clip].double())
    # bfloat16 keeps 8 bits: of every piece's product, summed in float32, and of their sum.
    tolerance = exact.abs().max().item() * {torch.float32: 1e-5, torch.bfloat16: 2**-7}[dtype]
    torch.testing.assert_close(y_soft.grad.double(), exact, rtol=0, atol=tolerance)


def peak_bytes(work) -> int:
    """The most that torch's allocator had handed out at a time, beyond what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        kept = work()  # noqa: F841 - what the work returns counts as long as it runs
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def test_questions_of_one_clip_share_its_patches():
    patch, clip = torch.ones(1, 400, 98, 512).half(), torch.zeros(4, dtype=int)
    y_soft = torch.rand(4, 2, 400).softmax(-1).requires_grad_()
    index = y_soft.argmax(-1)

    def step():
        value = select_patches(y_soft, index, patch, clip)
        return value, torch.autograd.grad(value, y_soft, torch.ones_like(value))

    output_and_its_gradient = 2 * 4 * 2 * 98 * 512 * 4
    # Half of the patches of the one clip, let alone one copy for each of its questions.
    assert peak_bytes(step) - output_and_its_gradient < patch.nbytes // 2
    assert peak_bytes(patch.clone) >= patch.nbytes


def test_extra_memory_is_a_fifth_of_the_mask_product():
    patch, clip = torch.ones(8, 100, 196, 512).half(), torch.arange(8)
    y_soft = torch.rand(8, 16, 100).softmax(-1).requires_grad_()
    index, upstream = y_soft.argmax(-1), torch.ones(8, 16, 196, 512)

    def step(select):
        value = select(y_soft, index, patch, clip)
        return value, torch.autograd.grad(value, y_soft, upstream)

    gather = peak_bytes(lambda: step(select_patches))
    product = peak_bytes(lambda: step(straight_through_einsum))
    assert gather < product / 5


def sampling_case():
    torch.manual_seed(0)
    clip = torch.tensor([0, 0, 1])
    logits = torch.randn(3, 2, 12).double().requires_grad_()
    patch, upstream = torch.randn(2, 12, 2, 3).double(), torch.randn(3, 2, 2, 3).double()
    generator = torch.Generator().manual_seed(0)

    def gradient(gradient_frames):
        y_soft = logits.softmax(-1)
        options = {"gradient_frames": gradient_frames, "generator": generator}
        value = select_patches(y_soft, y_soft.argmax(-1), patch, clip, **options)
        return torch.autograd.grad(value, logits, upstream)[0]

    return gradient


def test_a_sampled_gradient_is_unbiased_and_varies_less_with_more_frames():
    gradient = sampling_case()
    exact = gradient(0)
    spread = []
    for frames in (1, 4, 16):
        draws = torch.stack([gradient(frames) for _ in range(600)])
        deviation = draws.std(0)
        z_score = (draws.mean(0) - exact) / (deviation / 600**0.5).clamp_min(1e-12)
        assert (
            z_score.abs().max() < 4.5
        )  # 72 entries; the largest of them is above 4.5 once in 2,000
        spread.append(deviation.square().sum().item())
    assert spread[0] > 2 * spread[1] > 4 * spread[2]


def test_a_sampled_gradient_is_exact_where_all_frames_are_selected():
    torch.manual_seed(0)
    y_soft = torch.rand(1, 3, 3).softmax(-1).requires_grad_()
    patch, index, clip = torch.randn(1, 3, 2, 2), torch.tensor([[2, 0, 1]]), torch.tensor([0])
    exact, sampled = (
        torch.autograd.grad(
            select_patches(y_soft, index, patch, clip, gradient_frames=m).square().sum(), y_soft
        )[0]
        for m in (0, 5)
    )
    assert torch.equal(exact, sampled)


def test_frames_that_were_not_drawn_have_no_gradient_and_selected_ones_their_own():
    index, clip = torch.tensor([[0, 1]]), torch.tensor([0])
    y_soft = torch.full((1, 2, 40), 1 / 40)
    weight = frame_weights(y_soft, index, clip, clips=2, sampled=3, generator=None)
    assert weight[0, :2].tolist() == [1, 1]
    assert 1 <= (weight[0, 2:] > 0).sum() <= 3
