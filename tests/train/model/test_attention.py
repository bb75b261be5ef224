import math

import pytest
import torch

from train.model.attention import MultiHeadAttention, attend


def slow_attend(q, k, v, keep):
    """One query at a time, over the kept keys alone."""
    out = torch.zeros(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    for b in range(q.shape[0]):
        for i in range(q.shape[1]):
            kept = [j for j in range(k.shape[1]) if keep is None or keep[b, i, j]]
            if kept:
                scores = torch.stack([q[b, i] @ k[b, j] for j in kept]) / math.sqrt(q.shape[-1])
                out[b, i] = scores.softmax(0) @ v[b, kept]
    return out


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    return [torch.randn(2, length, 4, dtype=torch.float64) for length in (3, 5, 5)]


@pytest.mark.parametrize("kernel", ["explicit", "sdpa", "auto"])
def test_equals_the_slow_reference(qkv, kernel):
    torch.testing.assert_close(attend(*qkv, None, kernel), slow_attend(*qkv, None))


@pytest.mark.parametrize("kernel", ["explicit", "sdpa"])
def test_equals_the_slow_reference_under_a_mask(qkv, kernel):
    keep = torch.rand(2, 3, 5) > 0.4
    keep[0, 0] = False
    torch.testing.assert_close(attend(*qkv, keep, kernel), slow_attend(*qkv, keep))


@pytest.mark.parametrize("kernel", ["explicit", "sdpa"])
def test_masked_keys_have_exactly_no_effect(qkv, kernel):
    q, k, v = qkv
    keep = torch.tensor([True, True, False, True, False]).expand(2, 3, 5)
    before = attend(q, k, v, keep, kernel)
    k[:, 2], v[:, 2] = 1e3, -1e3
    v[:, 4] = 7.0
    assert torch.equal(attend(q, k, v, keep, kernel), before)


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
def test_kernels_agree_whatever_stands_before_queries_and_keys(axes):
    """The mask tells the groups apart, but not what stands between them and the first axis."""
    torch.manual_seed(0)
    lead = (2, 3, 4, 2)[:axes]
    q, k, v = (torch.randn(*lead, length, 4, dtype=torch.float64) for length in (3, 5, 5))
    keep = torch.rand(*(1,) * (axes - 1), lead[-1], 1, 5) > 0.4
    torch.testing.assert_close(attend(q, k, v, keep, "sdpa"), attend(q, k, v, keep, "explicit"))


def test_multi_head_equals_torchs_own_module():
    torch.manual_seed(0)
    ours = MultiHeadAttention(12, 3).double()
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.proj.weight)
        theirs.out_proj.bias.copy_(ours.proj.bias)
    x = torch.randn(2, 6, 12, dtype=torch.float64)
    keep = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    expected, _ = theirs(x, x, x, key_padding_mask=~keep)
    torch.testing.assert_close(ours(x, keep), expected)


def test_gradients():
    torch.manual_seed(0)
    attention = MultiHeadAttention(4, 2).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([[True, False, True]])
    assert torch.autograd.gradcheck(lambda rows: attention(rows, keep), (x,))
