"""What all baselines have in common, and what each sees."""

import pytest
import torch

from train.config import FeatureSizes, ModelConfig, TrainConfig
from train.methods import MODELS, build_model, reads_patches
from train.options import ConfigError

C, Q, N, P, D, A = 3, 5, 40, 16, 8, 7
SIZES = FeatureSizes(dim=D, frames=N, patches=P)
BASELINES = [method for method in MODELS if method != "videodistill"]
SEES_NO_VIDEO = {"text_only"}
CHOOSES = {"single_random_frame": 1, "atp": 1, "temp_atp": 8, "mist": 8}


def build(method: str, seed: int = 0):
    torch.manual_seed(seed)
    config = TrainConfig(method=method, model=ModelConfig(heads=2, head_dropout=0.3))
    return build_model(config, SIZES, A)


@pytest.fixture
def asked():
    torch.manual_seed(1)
    return (
        torch.randn(C, N, D).half(),
        torch.randn(C, N, P, D).half(),
        torch.randn(Q, D),
        torch.tensor([2, 0, 2, 1, 0]),
    )


@pytest.mark.parametrize("method", BASELINES)
def test_shapes(asked, method):
    answering = build(method)(*asked)
    chosen = CHOOSES.get(method, 0)
    assert answering.logits.shape == (Q, A)
    assert answering.frame_index.shape == (Q, chosen)
    assert answering.y_soft.shape == (Q, chosen, N)


@pytest.mark.parametrize("method", BASELINES)
def test_two_evaluation_calls_are_equal(asked, method):
    model = build(method).eval()
    first, second = model(*asked), model(*asked)
    assert all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))


@pytest.mark.parametrize("method", BASELINES)
def test_questions_are_answered_as_if_alone(asked, method):
    model = build(method).eval()
    cls, patch, text, clip_of_question = asked
    together = model(*asked)
    # The frame drawn blindly is drawn per place in the batch, so only the first stays the same.
    for question in range(1 if method == "single_random_frame" else Q):
        clip = clip_of_question[question]
        alone = model(
            cls[clip][None], patch[clip][None], text[question][None], torch.zeros(1, dtype=int)
        )
        torch.testing.assert_close(alone.logits[0], together.logits[question])


@pytest.mark.parametrize("method", BASELINES)
def test_every_parameter_is_trained(asked, method):
    model = build(method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(*asked, generator=torch.Generator().manual_seed(0)).logits.square().sum().backward()
        optimizer.step()
    # A softmax ignores a bias on all its keys or scores: those receive rounding or nothing.
    without = ("key.bias", "score.bias", "attend.bias")
    idle = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
        if not name.endswith(without)
    ]
    assert idle == []


@pytest.mark.parametrize("method", BASELINES)
def test_gradients_of_two_threads_do_not_vary(asked, method):
    """Many questions about few clips: what they say of a clip must be added in a fixed order."""
    torch.set_num_threads(2)  # conftest takes them back
    many = 256  # with fewer, one thread does all of the sum
    cls, patch, *_ = asked
    batch = cls, patch, torch.randn(many, D), torch.randint(0, C, (many,))
    model = build(method).eval()

    def gradients():
        logit = model(*batch, generator=torch.Generator().manual_seed(0)).logits
        return torch.autograd.grad(logit.square().sum(), list(model.parameters()))

    first = gradients()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, gradients(), strict=True))


@pytest.mark.parametrize("method", BASELINES)
def test_sees_what_it_says_it_sees(asked, method):
    model = build(method).eval()
    cls, patch, text, clip_of_question = asked
    before = model(*asked).logits
    other_cls = model(cls + torch.randn_like(cls), patch, text, clip_of_question).logits
    other_patch = model(cls, patch + torch.randn_like(patch), text, clip_of_question).logits
    other_text = model(cls, patch, text + 1 + torch.randn_like(text), clip_of_question).logits
    assert torch.equal(before, other_cls) is (method in SEES_NO_VIDEO)
    reads = reads_patches(TrainConfig(method=method))
    assert torch.equal(before, other_patch) is not reads
    assert not torch.equal(before, other_text)


@pytest.mark.parametrize("method", ["psac", "mist", "temp_atp"])
def test_heads_must_divide_the_width(method):
    config = TrainConfig(method=method, model=ModelConfig(heads=3))
    with pytest.raises(ConfigError, match="heads is 3"):
        build_model(config, SIZES, A)


def test_mean_frame_sees_the_mean_of_all_frames(asked):
    cls, patch, text, clip = asked
    model = build("mean_frame").eval()
    mean = cls.float().mean(1)[clip]
    answering = model(*asked)
    torch.testing.assert_close(answering.logits, model.classifier(torch.cat([mean, text], -1)))
    shuffled = cls[:, torch.randperm(N)]
    torch.testing.assert_close(model(shuffled, patch, text, clip).logits, answering.logits)


def test_single_frame_sees_the_frame_it_names(asked):
    cls, _, text, clip = asked
    model = build("single_random_frame").eval()
    answering = model(*asked)
    frame = cls.float()[clip, answering.frame_index[:, 0]]
    torch.testing.assert_close(answering.logits, model.classifier(torch.cat([frame, text], -1)))


def test_single_frame_is_random_in_training_and_fixed_in_evaluation(asked):
    model = build("single_random_frame")

    def drawn(seed):
        return model(*asked, generator=torch.Generator().manual_seed(seed)).frame_index

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    model.eval()
    assert torch.equal(drawn(1), drawn(2))
