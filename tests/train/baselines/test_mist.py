import pytest
import torch

from train.baselines.mist import MIST, Selector, pool_regions
from train.config import FeatureSizes, ModelConfig

Q, N, P, D = 2, 64, 49, 8


def test_a_selector_picks_the_rows_most_like_the_question_in_their_order():
    torch.manual_seed(0)
    selector = Selector(D, 3)
    t, rows = torch.randn(Q, D), torch.randn(Q, 9, D)
    index, factor = selector(t, rows)
    for q in range(Q):
        scores = torch.stack([selector.query(t[q]) @ selector.key(row) for row in rows[q]])
        assert index[q].tolist() == sorted(scores.argsort(descending=True)[:3].tolist())
    assert torch.equal(factor, torch.ones(Q, 3))


def test_the_factor_has_the_gradient_of_the_probability():
    torch.manual_seed(0)
    selector = Selector(D, 2).double()
    t = torch.randn(1, D).double().requires_grad_()
    rows = torch.randn(1, 5, D).double()
    index, factor = selector(t, rows)
    (found,) = torch.autograd.grad(factor.sum(), t, retain_graph=True)
    scores = (selector.query(t)[0] @ selector.key(rows[0]).T).float() * D**-0.5
    (expected,) = torch.autograd.grad(scores.softmax(-1)[index[0]].sum(), t)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("patches", "regions"), [(49, 16), (196, 16), (64, 16), (16, 16), (9, 9), (50, 50)]
)
def test_square_grids_are_pooled_to_four_by_four(patches, regions):
    pooled = pool_regions(torch.randn(1, 2, patches, D))
    assert pooled.shape == (1, 2, regions, D)


def test_pooling_averages_neighbours():
    patch = torch.randn(1, 1, 64, D)
    grid = patch.reshape(8, 8, D)
    pooled = pool_regions(patch).reshape(4, 4, D)
    torch.testing.assert_close(pooled[1, 2], grid[2:4, 4:6].mean((0, 1)))


def test_only_regions_of_selected_segments_are_seen():
    torch.manual_seed(0)
    model = MIST(ModelConfig(heads=2), FeatureSizes(dim=D, frames=N, patches=P), 3).eval()
    cls, patch = torch.randn(1, N, D), torch.randn(1, N, P, D)
    text, clip = torch.randn(1, D), torch.zeros(1, dtype=int)
    before = model(cls, patch, text, clip)
    # The last layer's choice is reported; the first one's may differ, so look at both.
    unseen = patch.clone()
    unseen[:, 1::2] += 1  # 32 of 64 frames are taken: the odd ones
    even = patch.clone()
    even[:, 0::2] += 1
    assert torch.equal(model(cls, even, text, clip).logits, before.logits)
    assert not torch.equal(model(cls, unseen, text, clip).logits, before.logits)
    assert before.frame_index.shape == (1, 8)
