import pytest
import torch

from train.model.frame_sampling_block import FrameSamplingBlock


@pytest.fixture(params=["frozen", "chained"])
def block(request) -> FrameSamplingBlock:
    torch.manual_seed(0)
    return FrameSamplingBlock(8, 2, mlp_ratio=2, skip=request.param).double()


def test_skip_form_is_the_one_named(block):
    x, t = torch.randn(2, 5, 8).double(), torch.randn(2, 8).double()
    h = block.norm_gate(x)
    g = block.gate(h, t)
    start = x if block.skip == "frozen" else x + g - h
    u = start + block.attention(block.norm_attention(g), None)
    torch.testing.assert_close(block(x, t), u + block.mlp(block.norm_mlp(u)))


def test_frames_see_each_other_but_not_other_questions(block):
    x, t = torch.randn(2, 5, 8).double(), torch.randn(2, 8).double()
    before = block(x, t)
    x[0, 0] += torch.randn(8)
    after = block(x, t)
    assert not torch.isclose(before[0, 4], after[0, 4]).all()
    assert torch.equal(before[1], after[1])


def test_the_question_changes_the_frames(block):
    x = torch.randn(1, 5, 8).double()
    assert not torch.equal(
        block(x, torch.randn(1, 8).double()), block(x, torch.ones(1, 8).double())
    )


def test_gradients(block):
    x = torch.randn(1, 3, 8).double().requires_grad_()
    t = torch.randn(1, 8).double().requires_grad_()
    assert torch.autograd.gradcheck(block, (x, t))
