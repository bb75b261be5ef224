import pytest
import torch

from train.model.cross_attention import CrossAttention
from train.model.la_gate import LAGate

Q, M, L, D, H = 2, 6, 3, 8, 2


def build(unit: str):
    torch.manual_seed(0)
    return (LAGate(D, H) if unit == "la_gate" else CrossAttention(D, H, unit)).double()


@torch.no_grad()
def slow_attention(unit: CrossAttention, asking, asked):
    """Scaled dot-product attention row by row and head by head."""
    width = D // H
    rows = []
    for row in asking:
        heads = []
        for head in range(H):
            part = slice(head * width, (head + 1) * width)
            query = unit.w_q(row)[part]
            weights = torch.stack([query @ unit.w_k(other)[part] for other in asked])
            weights = (weights / width**0.5).softmax(0)
            heads.append(sum(w * unit.w_v(o)[part] for w, o in zip(weights, asked, strict=True)))
        rows.append(unit.w_o(torch.cat(heads)))
    return torch.stack(rows)


@pytest.mark.parametrize("direction", ["v2t", "t2v"])
def test_equals_attention_written_as_loops(direction):
    unit = build(direction)
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, L, D).double()
    mixed = unit.mixed(v, t)
    for q in range(Q):
        asking, asked = (v[q], t[q]) if direction == "v2t" else (t[q], v[q])
        torch.testing.assert_close(mixed[q], slow_attention(unit, asking, asked))
    expected = v + (mixed if direction == "v2t" else mixed.mean(1, keepdim=True))
    torch.testing.assert_close(unit(v, t), expected)


def test_text_as_query_alters_the_shape():
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, L, D).double()
    assert build("t2v").mixed(v, t).shape == (Q, L, D)
    assert build("v2t").mixed(v, t).shape == v.shape
    assert build("la_gate")(v, t).shape == v.shape


def rank_of_the_text(unit, v, t) -> int:
    """Rank of the Jacobian of one output row, before the skip, with respect to the text."""

    def row(text):
        return (unit(v, text.reshape(1, -1, D)) - v)[0, 0]

    jacobian = torch.autograd.functional.jacobian(row, t.flatten())
    return int(torch.linalg.matrix_rank(jacobian))


@pytest.mark.parametrize(
    ("unit", "at_most_heads"), [("la_gate", True), ("v2t", False), ("t2v", False)]
)
@pytest.mark.parametrize("rows", [1, L])
def test_text_only_scales_values_in_the_gate_and_is_mixed_in_by_attention(
    unit, at_most_heads, rows
):
    v, t = torch.randn(1, M, D).double(), torch.randn(1, rows, D).double()
    assert (rank_of_the_text(build(unit), v, t) <= H) is at_most_heads


@pytest.mark.parametrize(
    ("unit", "independent"), [("la_gate", True), ("v2t", True), ("t2v", False)]
)
def test_only_text_as_query_blends_the_rows(unit, independent):
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, D).double()
    changed = v.clone()
    changed[:, 0] += 1
    module = build(unit)
    same = torch.allclose(module(v, t)[:, 1:], module(changed, t)[:, 1:], atol=1e-12)
    assert same is independent


def test_one_text_row_gives_every_visual_row_the_same_vector():
    unit = build("v2t")
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, 1, D).double()
    mixed = unit.mixed(v, t)
    torch.testing.assert_close(mixed, mixed[:, :1].expand_as(mixed))


@pytest.mark.parametrize("direction", ["v2t", "t2v"])
def test_gradients(direction):
    unit = build(direction)
    v = torch.randn(1, 3, D).double().requires_grad_()
    t = torch.randn(1, 2, D).double().requires_grad_()
    assert torch.autograd.gradcheck(unit, (v, t))
