import torch

from train.baselines.hcrn import HCRN, ConditionalRelation
from train.config import FeatureSizes, ModelConfig

B, O, D = 2, 5, 8


def build(*, gated: bool) -> ConditionalRelation:
    torch.manual_seed(0)
    return ConditionalRelation(D, O, gated=gated)


def test_a_unit_relates_subsets_of_every_size_given_a_condition():
    for gated in (False, True):
        unit, objects, condition = build(gated=gated), torch.randn(B, O, D), torch.randn(B, D)
        related = unit(objects, condition)
        assert related.shape == (B, O - 2, D)
        for b in range(B):
            for number, subsets in enumerate(unit.subsets):
                outputs = []
                for subset in subsets:
                    mean = sum(objects[b, member] for member in subset) / len(subset)
                    both = torch.cat([mean, condition[b]])
                    out = torch.nn.functional.elu(unit.relate[number](both))
                    outputs.append(out * unit.gate[number](both).sigmoid() if gated else out)
                torch.testing.assert_close(related[b, number], sum(outputs) / len(outputs))


def test_subsets_have_sizes_two_to_all_but_one_and_are_drawn_once():
    unit = build(gated=False)
    assert [len(subset) for subsets in unit.subsets for subset in subsets] == [2, 2, 3, 3, 4, 4]
    assert unit.subsets == build(gated=False).subsets


def test_order_within_the_video_matters():
    torch.manual_seed(0)
    model = HCRN(ModelConfig(), FeatureSizes(dim=D, frames=100, patches=1), 3).eval()
    cls, text, clip = torch.randn(1, 100, D), torch.randn(1, D), torch.zeros(1, dtype=int)
    one = model(cls, torch.empty(1, 100, 0, D), text, clip).logits
    other = model(cls.flip(1), torch.empty(1, 100, 0, D), text, clip).logits
    assert not torch.allclose(one, other)


def test_short_clips_repeat_frames():
    model = HCRN(ModelConfig(), FeatureSizes(dim=D, frames=8, patches=1), 3).eval()
    cls, text, clip = torch.randn(1, 8, D), torch.randn(1, D), torch.zeros(1, dtype=int)
    assert model(cls, torch.empty(1, 8, 0, D), text, clip).logits.isfinite().all()
