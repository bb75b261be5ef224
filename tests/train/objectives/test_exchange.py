"""Half of a batch's captions change places, by couples, and never for one that is as true."""

import pytest
import torch

from train.objectives.matching import alike, exchange


def draw(pairs: int, probability: float, seed: int = 0, alike_RR=None):
    if alike_RR is None:
        alike_RR = torch.eye(pairs, dtype=torch.bool)
    return exchange(alike_RR, probability, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pairs", [0, 1, 2, 5, 64])
def test_texts_are_exchanged_by_couples(pairs):
    source = draw(pairs, 0.5)
    assert sorted(source.tolist()) == list(range(pairs))
    assert torch.equal(source[source], torch.arange(pairs))


def test_probability_is_of_a_couple():
    moved = [int((draw(64, 0.5, seed) != torch.arange(64)).sum()) for seed in range(200)]
    assert abs(sum(moved) / (200 * 64) - 0.5) < 0.02
    assert torch.equal(draw(64, 0.0), torch.arange(64))
    assert (draw(64, 1.0) != torch.arange(64)).all()
    assert (draw(5, 1.0) != torch.arange(5)).sum() == 4


def test_same_seed_same_exchange():
    assert torch.equal(draw(32, 0.5, 3), draw(32, 0.5, 3))
    assert not torch.equal(draw(32, 0.5, 3), draw(32, 0.5, 4))


def test_captions_as_true_of_the_other_clip_stay():
    clips = torch.tensor([0, 0, 1, 2])
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0], [3.0, 3.0]])
    same = alike(clips, text)
    expected = torch.tensor(
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool
    )
    assert torch.equal(same, expected)
    for seed in range(50):
        source = draw(4, 1.0, seed, same)
        moved = [(i, j) for i, j in enumerate(source.tolist()) if i != j]
        assert all(not same[i, j] for i, j in moved)
