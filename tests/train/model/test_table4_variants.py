"""The variants of Table 4, and the layers that may stand in the paper's places."""

import pytest
import torch

from train.config import FeatureSizes, ModelConfig
from train.model.video_distill import VideoDistill
from train.options import ConfigError

C, Q, N, P, D, A = 3, 5, 6, 4, 8, 7
VARIANTS = {
    "a-baseline": {"sampler": "uniform", "refinement": "transformer", "refinement_blocks": 3},
    "b-uniform": {"sampler": "uniform"},
    "c-soft": {"selection": "soft"},
    "d-without-refinement": {"refinement": "transformer", "refinement_blocks": 3},
    "e-cross-attention": {"fusion": "v2t"},
    "e-text-as-query": {"fusion": "t2v"},
    "f-videodistill": {},
    "timesformer": {"space_time": "timesformer"},
    "joint": {"space_time": "joint"},
}


def build(options) -> VideoDistill:
    torch.manual_seed(0)
    options = {"selected": 2, "heads": 2, "mlp_ratio": 2, "sampling_blocks": 1} | options
    return VideoDistill(ModelConfig(**options), FeatureSizes(dim=D, frames=N, patches=P), A)


@pytest.fixture
def asked():
    torch.manual_seed(1)
    return (
        torch.randn(C, N, D).half(),
        torch.randn(C, N, P, D).half(),
        torch.randn(Q, D),
        torch.tensor([2, 0, 2, 1, 0]),
    )


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_trains_every_parameter_and_repeats_itself_in_evaluation(asked, options):
    model = build(options)
    # The text linear starts as the identity and the fc of TimeSformer at zero: two steps reach all.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(*asked, generator=torch.Generator().manual_seed(0)).logits.square().sum().backward()
        optimizer.step()
    # A softmax ignores a bias on all its keys, and Eq. 4's one on all frames: what they receive is
    # rounding or nothing.
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
        if not name.endswith(("w_k.bias", "sampler.w_s.bias"))
    ]
    assert idle == expected_idle(options)
    model.eval()
    first, second = model(*asked), model(*asked)
    assert torch.equal(first.logits, second.logits)


def expected_idle(options) -> list[str]:
    """With one text row the softmax of cross-attention is 1, so its query and key do nothing."""
    if options.get("fusion") != "v2t":
        return []
    gates = ["sampler.blocks.0.gate", "refinement.blocks.0.gate", "refinement.blocks.1.gate"]
    return [f"{g}.{name}" for g in gates for name in ("w_q.weight", "w_q.bias", "w_k.weight")]


def test_soft_selection_is_the_weighted_sum_of_all_frames(asked):
    model = build({"selection": "soft"}).eval()
    cls, patch, text, clip_of_question = asked
    choice = model.choose_frames(cls, text, clip_of_question)
    selected = model.select(choice, patch, clip_of_question)
    for question, clip in enumerate(clip_of_question):
        for slot in range(2):
            weights = choice.y_soft[question, slot]
            slow = sum(w * patch[clip, n].float() for n, w in enumerate(weights))
            torch.testing.assert_close(selected[question, slot], slow)


def test_soft_selection_with_one_hot_weights_is_the_hard_one(asked):
    soft, hard = build({"selection": "soft"}).eval(), build({}).eval()
    cls, patch, text, clip_of_question = asked
    choice = hard.choose_frames(cls, text, clip_of_question)
    one_hot = torch.nn.functional.one_hot(choice.frame_index, N).float()
    picked = soft.select(choice._replace(y_soft=one_hot), patch, clip_of_question)
    assert torch.equal(picked, hard.select(choice, patch, clip_of_question))


def test_soft_selection_needs_a_sampler_that_weighs():
    with pytest.raises(ConfigError, match="selection is 'soft'"):
        ModelConfig(selection="soft", sampler="uniform")
