import math

import pytest
import torch

from train.model.la_gate import LAGate

Q, M, D, H = 2, 5, 12, 3


@pytest.fixture
def gate() -> LAGate:
    torch.manual_seed(0)
    return LAGate(D, H).double()


@torch.no_grad()
def slow_gate(gate: LAGate, v, t):
    """Eq. 1-3 row by row and head by head, with the summed similarity of Section 3.2."""
    width = D // H
    out = torch.empty_like(v)
    for q in range(v.shape[0]):
        for i in range(v.shape[1]):
            query, value = gate.w_q(v[q, i]), gate.w_v(v[q, i])
            parts = []
            for head in range(H):
                part = slice(head * width, (head + 1) * width)
                dist = 0.0
                for row in t[q]:
                    key = gate.w_k(row)[part]
                    dist += float(query[part] @ key) / math.sqrt(
                        float(query[part] @ query[part]) * float(key @ key)
                    )
                parts.append(torch.full((width,), dist, dtype=v.dtype) * value[part])
            out[q, i] = v[q, i] + gate.w_o(torch.cat(parts))
    return out


def test_equals_the_equations_written_as_loops(gate):
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, D).double()
    torch.testing.assert_close(gate(v, t), slow_gate(gate, v, t[:, None]), rtol=0, atol=1e-12)


def test_several_text_rows_sum_their_similarity(gate):
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, 4, D).double()
    torch.testing.assert_close(gate(v, t), slow_gate(gate, v, t), rtol=0, atol=1e-12)


def test_one_text_row_is_the_sentence_feature(gate):
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, D).double()
    assert torch.equal(gate(v, t), gate(v, t[:, None]))


def test_importance_is_a_cosine_that_ignores_the_length_of_the_text(gate):
    torch.nn.init.zeros_(gate.w_k.bias)
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, 1, D).double()
    importance = gate.importance(v, t)
    assert importance.abs().max() <= 1
    torch.testing.assert_close(importance, gate.importance(v, 100 * t))


def test_a_row_never_sees_another_row(gate):
    v, t = torch.randn(Q, M, D).double(), torch.randn(Q, D).double()
    changed = v.clone()
    changed[:, 0] += 1
    assert torch.equal(gate(v, t)[:, 1:], gate(changed, t)[:, 1:])


def test_zero_rows_and_zero_text_give_finite_values_and_gradients(gate):
    for parameter in (gate.w_q.bias, gate.w_k.bias):
        torch.nn.init.zeros_(parameter)
    v = torch.zeros(Q, M, D).double().requires_grad_()
    gate(v, torch.zeros(Q, D).double()).sum().backward()
    assert v.grad.isfinite().all()


def test_gradients(gate):
    v = torch.randn(1, 3, D).double().requires_grad_()
    t = torch.randn(1, D).double().requires_grad_()
    assert torch.autograd.gradcheck(gate, (v, t))
