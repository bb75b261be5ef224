from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from train.model.divided_attention import DividedBlock, GroupedAttention

# Weights, an input and its output of the original Frozen in Time block, in float64.
GOLDEN = Path(__file__).with_name("frozen_block_golden.npz")
ORIGINAL_NAMES = {
    "norm_time": "norm3",
    "time": "timeattn",
    "norm_space": "norm1",
    "space": "attn",
    "norm_mlp": "norm2",
}
FRAMES, PATCHES, DIM, HEADS = 3, 4, 8, 2


@pytest.fixture
def golden():
    with np.load(GOLDEN, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def golden_block(golden) -> DividedBlock:
    block = DividedBlock(16, 4).double()
    names = {}
    for ours in block.state_dict():
        module, rest = ours.split(".", 1)
        names[ours] = golden[f"p.{ORIGINAL_NAMES.get(module, module)}.{rest}"]
    block.load_state_dict(names)
    return block


def test_equals_the_original_block(golden):
    difference = golden_block(golden)(golden["x"], 3) - golden["y"]
    assert difference.abs().max().item() < 1e-12


def test_the_original_residual_is_not_chained(golden):
    block = golden_block(golden)
    x = golden["x"]
    t = x + block.time(block.norm_time(x), 3)
    chained = t + block.space(block.norm_space(t), 3)
    chained = chained + block.mlp(block.norm_mlp(chained))
    assert (chained - golden["y"]).abs().max().item() > 1


def slow_grouped(attention: GroupedAttention, x):
    """Plain attention over all tokens under the mask that the groups mean."""
    tokens = [(None, None)] + [(f, p) for f in range(FRAMES) for p in range(PATCHES)]
    axis = 1 if attention.axis == "time" else 0
    keep = torch.tensor(
        [[i == 0 or j == 0 or a[axis] == b[axis] for j, b in enumerate(tokens)]
         for i, a in enumerate(tokens)]
    )  # fmt: skip
    query, key, value = attention.qkv(x).chunk(3, -1)
    width = DIM // HEADS
    heads = []
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        score = query[..., part] @ key[..., part].mT / width**0.5
        heads.append(score.masked_fill(~keep, -torch.inf).softmax(-1) @ value[..., part])
    return attention.proj(torch.cat(heads, -1))


@pytest.mark.parametrize("kernel", ["explicit", "sdpa"])
@pytest.mark.parametrize("axis", ["time", "space"])
def test_groups_equal_masked_attention_over_all_tokens(axis, kernel):
    torch.manual_seed(0)
    attention = GroupedAttention(DIM, HEADS, axis, kernel).double()
    x = torch.randn(2, 1 + FRAMES * PATCHES, DIM).double()
    torch.testing.assert_close(attention(x, FRAMES), slow_grouped(attention, x))


@pytest.mark.parametrize("cls_only", [False, True])
@pytest.mark.parametrize("axis", ["time", "space"])
def test_sdpa_runs_a_fused_kernel_and_equals_the_products(axis, cls_only):
    """Torch is forbidden its unfused way, which it takes in silence for groups as a fifth axis."""
    torch.manual_seed(0)
    attention = GroupedAttention(DIM, HEADS, axis, "sdpa")
    x = torch.randn(2, 1 + FRAMES * PATCHES, DIM)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        fused = attention(x, FRAMES, cls_only=cls_only)
    attention.kernel = "explicit"
    torch.testing.assert_close(fused, attention(x, FRAMES, cls_only=cls_only), rtol=1e-5, atol=1e-5)


def test_the_residual_of_the_space_attention_starts_at_the_input():
    torch.manual_seed(0)
    block = DividedBlock(DIM, HEADS).double()
    x = torch.randn(2, 1 + FRAMES * PATCHES, DIM).double()
    t = x + slow_grouped(block.time, block.norm_time(x))
    u = x + slow_grouped(block.space, block.norm_space(t))
    torch.testing.assert_close(block(x, FRAMES), u + block.mlp(block.norm_mlp(u)))


def test_cls_only_is_the_first_row_of_the_whole():
    torch.manual_seed(0)
    block = DividedBlock(DIM, HEADS).double()
    x = torch.randn(2, 1 + FRAMES * PATCHES, DIM).double()
    whole, alone = block(x, FRAMES), block(x, FRAMES, cls_only=True)
    torch.testing.assert_close(alone, whole[:, :1], rtol=0, atol=1e-14)


def test_gradients():
    torch.manual_seed(0)
    block = DividedBlock(4, 2, mlp_ratio=1).double()
    x = torch.randn(1, 1 + 2 * 2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: block(rows, 2), (x,))
