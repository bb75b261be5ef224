import pytest
import torch

from train.model.taken_rows import take_rows


def gradient(take, x, index, upstream):
    x = x.clone().requires_grad_()
    take(x, index).backward(upstream)
    return x.grad


@pytest.mark.parametrize(
    ("shape", "index"),
    [
        pytest.param((3, 5), [2, 0, 2, 2], id="rows"),
        pytest.param((3, 2, 2, 5), [1, 1, 0], id="rows of several axes"),
        pytest.param((3, 5), [[2, 0], [1, 1], [0, 0]], id="index of several axes"),
        pytest.param((3, 5), [], id="none"),
    ],
)
def test_equals_indexing(shape, index):
    torch.manual_seed(0)
    x, index = torch.randn(shape).double(), torch.tensor(index, dtype=torch.int64)
    assert torch.equal(take_rows(x, index), x[index])
    assert torch.autograd.gradcheck(lambda rows: take_rows(rows, index), x.requires_grad_())


def test_gradients_of_two_threads_are_bit_for_bit_those_of_a_loop():
    torch.set_num_threads(2)  # conftest takes them back
    torch.manual_seed(0)
    x, index = torch.randn(3, 16, 512), torch.randint(0, 3, (40,))
    upstream = torch.randn(40, 16, 512)
    assert upstream.numel() > 32_768  # where indexing begins to add in any order
    expected = torch.zeros_like(x)
    for place, row in enumerate(index.tolist()):
        expected[row] += upstream[place]
    for _ in range(5):
        assert torch.equal(gradient(take_rows, x, index, upstream), expected)
