"""Eq. 8 against a loop written from the paper."""

import math

import torch

from train.objectives.contrastive import contrastive_loss


def slow(v, t, matched, same, tau):
    """One pair after the other, one text after the other."""
    losses = []
    for i in range(len(v)):
        if not matched[i]:
            continue
        cosines = {
            j: float(v[i] @ t[j] / (v[i].norm() * t[j].norm()))
            for j in range(len(t))
            if j == i or not same[i, j]
        }
        total = sum(math.exp(c / tau) for c in cosines.values())
        losses.append(-math.log(math.exp(cosines[i] / tau) / total))
    return sum(losses) / max(len(losses), 1)


def test_equals_the_loop():
    torch.manual_seed(0)
    v, t = torch.randn(2, 9, 16).double()
    matched = torch.tensor([1, 0, 1, 1, 0, 1, 1, 0, 1]).bool()
    same = torch.eye(9).bool()
    same[0, 3] = same[3, 0] = True
    for tau in (0.07, 1.0):
        loss = contrastive_loss(v, t, matched, same, tau)
        torch.testing.assert_close(loss.item(), slow(v, t, matched, same, tau), atol=1e-12, rtol=0)


def test_only_matched_pairs_pull():
    v, t = torch.randn(2, 4, 8).double().requires_grad_().unbind()
    v.retain_grad()
    matched = torch.tensor([True, False, True, False])
    contrastive_loss(v, t, matched, torch.eye(4).bool(), 0.07).backward()
    assert v.grad[matched].abs().sum() > 0
    assert v.grad[~matched].abs().sum() == 0


def test_no_matched_pair_costs_nothing():
    v, t = torch.randn(2, 2, 8)
    none = torch.zeros(2, dtype=torch.bool)
    assert contrastive_loss(v, t, none, torch.eye(2).bool(), 0.07) == 0
