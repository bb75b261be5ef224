"""What shares a batch with a question, and what shows a frame twice, does not change its answer."""

import pytest
import torch

from train.config import FeatureSizes, ModelConfig, TrainConfig
from train.methods import MODELS, build_model
from train.model.video_distill import VideoDistill

C, Q, N, P, D, A = 3, 5, 16, 4, 8, 7
SIZES = FeatureSizes(dim=D, frames=N, patches=P)
SMALL = ModelConfig(selected=4, sampling_blocks=2, refinement_blocks=1, heads=2, head_dropout=0.3)


def build(method: str):
    torch.manual_seed(0)
    return build_model(TrainConfig(method=method, model=SMALL), SIZES, A).eval()


@pytest.fixture
def asked():
    torch.manual_seed(1)
    return (
        torch.randn(C, N, D).half(),
        torch.randn(C, N, P, D).half(),
        torch.randn(Q, D),
        torch.tensor([2, 0, 2, 1, 0]),
    )


@pytest.mark.parametrize("method", MODELS)
def test_evaluation_draws_nothing(asked, method):
    model = build(method)
    first = model(*asked)
    torch.manual_seed(99)
    again = model(*asked, generator=torch.Generator().manual_seed(7))
    for ours, theirs in zip(first, again, strict=True):
        assert ours is theirs is None or torch.equal(ours, theirs)


@pytest.mark.parametrize("method", MODELS)
def test_a_clip_that_nobody_asks_about_has_no_effect(asked, method):
    """Not even one whose features are no numbers."""
    model = build(method)
    cls, patch, text, clip = asked
    nan = torch.full((1,), torch.nan, dtype=torch.float16)
    beside = (torch.cat([cls, nan.expand(1, N, D)]), torch.cat([patch, nan.expand(1, N, P, D)]))
    torch.testing.assert_close(
        model(*beside, text, clip).logits, model(*asked).logits, rtol=0, atol=1e-6
    )


# The frame of `single_random_frame` is drawn by the place in the batch: only the first stays.
@pytest.mark.parametrize("method", [m for m in MODELS if m != "single_random_frame"])
def test_other_questions_of_the_batch_have_no_effect(asked, method):
    model = build(method)
    cls, patch, text, clip = asked
    kept = torch.tensor([4, 1])
    alone = model(cls, patch, text[kept], clip[kept])
    torch.testing.assert_close(alone.logits, model(*asked).logits[kept], rtol=0, atol=1e-5)


def twice(features):
    return features.repeat_interleave(2, dim=1)


def test_showing_every_frame_twice_has_no_effect_on_the_mean(asked):
    cls, patch, text, clip = asked
    model = build("mean_frame")
    torch.testing.assert_close(
        model(twice(cls), twice(patch), text, clip).logits, model(*asked).logits
    )


def test_showing_every_frame_twice_selects_the_same_and_answers_the_same(asked):
    """Without embeddings of time, where copies change no attention and either may be taken."""
    cls, patch, text, clip = (x.double() if x.is_floating_point() else x for x in asked)
    options = SMALL.to_dict() | {"temporal_on_selected": False}
    once, doubled = (
        VideoDistill(
            ModelConfig.from_dict(options), FeatureSizes(dim=D, frames=frames, patches=P), A
        )
        .double()
        .eval()
        for frames in (N, 2 * N)
    )
    with torch.no_grad():
        for parameter in once.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for model in (once, doubled):
            model.sampler.temporal_embedding.zero_()
    state = {name: tensor for name, tensor in once.state_dict().items() if "temporal" not in name}
    missing = doubled.load_state_dict(state, strict=False).missing_keys
    assert missing == ["sampler.temporal_embedding"]

    expected = once(cls, patch, text, clip)
    found = doubled(twice(cls), twice(patch), text, clip)
    assert torch.equal(found.frame_index // 2, expected.frame_index)
    assert len(expected.frame_index.unique()) > 1
    torch.testing.assert_close(found.logits, expected.logits)
