import pytest
import torch

from train.config import FeatureSizes, ModelConfig
from train.model.video_distill import VideoDistill

C, Q, N, P, D, A = 3, 5, 6, 4, 8, 7
SIZES = FeatureSizes(dim=D, frames=N, patches=P)


def build(**options) -> VideoDistill:
    torch.manual_seed(0)
    options = {"selected": 2, "heads": 2, "mlp_ratio": 2, "sampling_blocks": 1} | options
    return VideoDistill(ModelConfig(**options), SIZES, A)


@pytest.fixture
def asked():
    torch.manual_seed(1)
    return (
        torch.randn(C, N, D).half(),
        torch.randn(C, N, P, D).half(),
        torch.randn(Q, D),
        torch.tensor([2, 0, 2, 1, 0]),
    )


def test_shapes(asked):
    answering = build()(*asked)
    assert answering.logits.shape == (Q, A)
    assert answering.frame_index.shape == (Q, 2)
    assert answering.y_soft.shape == (Q, 2, N)


@pytest.mark.parametrize("sampler", ["learned", "uniform", "random", "clip_similarity"])
def test_two_evaluation_calls_are_equal(asked, sampler):
    model = build(sampler=sampler, head_dropout=0.5).eval()
    first, second = model(*asked), model(*asked)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_questions_about_one_clip_are_answered_as_if_alone(asked):
    model = build().eval()
    cls, patch, text, clip_of_question = asked
    together = model(*asked).logits
    for question, clip in enumerate(clip_of_question):
        alone = model(
            cls[clip][None], patch[clip][None], text[question][None], torch.zeros(1, dtype=int)
        ).logits
        torch.testing.assert_close(alone[0], together[question])


def test_the_answer_sees_only_the_selected_frames(asked):
    model = build().eval()
    cls, patch, text, clip_of_question = asked
    before = model(*asked)
    unseen = torch.ones(C, N, dtype=bool)
    unseen[clip_of_question[:, None], before.frame_index] = False
    changed = patch.clone()
    changed[unseen] += 1
    assert torch.equal(model(cls, changed, text, clip_of_question).logits, before.logits)


def test_training_reaches_every_weight_of_the_sampler(asked):
    model = build(sampler_init="random", gate_init="random").train()
    answering = model(*asked, tau=1.0, generator=torch.Generator().manual_seed(0))
    answering.logits.square().sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    # A softmax does not see what is added to all frames alike, nor the keys' common part.
    assert without <= {"sampler.w_s.bias"}


@pytest.mark.parametrize("sampler", ["uniform", "random"])
def test_a_policy_without_weights_trains_the_rest(asked, sampler):
    model = build(sampler=sampler).train()
    model(*asked).logits.square().sum().backward()
    assert not list(model.sampler.parameters())
    assert model.refinement.tokens.v_star_embedding.grad.any()


@pytest.mark.parametrize("selected", [1, N])
def test_edges_of_k(asked, selected):
    model = build(selected=selected).train()
    answering = model(*asked)
    assert answering.frame_index.shape == (Q, selected)
    answering.logits.sum().backward()


def test_bfloat16_stays_close_to_float32(asked):
    # A fixed choice of frames: rounding may tip a close race between two of them.
    model = build(sampler="uniform").eval()
    exact = model(*asked).logits
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*asked).logits
    torch.testing.assert_close(rounded.float(), exact, atol=0.1, rtol=0.1)
