import pytest
import torch

from train.config import FeatureSizes, ModelConfig, TrainConfig
from train.model.video_distill import VideoDistill
from train.optimisation import build_optimizer, learning_rate, temperature

CONFIG = TrainConfig(steps=110, warmup_steps=10, lr=0.1, tau_start=1.0, tau_end=0.5)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.01), (9, 0.1), (10, 0.1), (60, 0.05), (110, 0.0)],
)
def test_warm_up_then_cosine(step, expected):
    assert learning_rate(step, CONFIG) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (109, 0.5), (54.5, 0.75)])
def test_temperature_falls_in_a_straight_line(step, expected):
    assert temperature(step, CONFIG) == pytest.approx(expected)


def test_a_run_of_one_step_has_a_rate_and_a_temperature():
    config = TrainConfig(steps=1, warmup_steps=0)
    assert learning_rate(0, config) == config.lr
    assert temperature(0, config) == config.tau_start


def test_only_matrices_decay():
    sizes = FeatureSizes(dim=8, frames=4, patches=2)
    model = VideoDistill(ModelConfig(selected=2, heads=2), sizes, 3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = build_optimizer(model, CONFIG).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (CONFIG.weight_decay, 0.0)
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    kept_names = {names[id(parameter)] for parameter in kept["params"]}
    assert decayed_names | kept_names == set(names.values())
    assert "sampler.w_s.weight" in decayed_names
    assert all(name.endswith("weight") for name in decayed_names)
    assert {
        "refinement.tokens.temporal_embedding",
        "sampler.w_s.bias",
        "refinement.norm.weight",
    } <= kept_names


def test_a_step_moves_the_weights():
    weight = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(weight, CONFIG)
    before = weight.weight.clone()
    weight(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(weight.weight, before)
