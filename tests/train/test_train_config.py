import math

import pytest

from cache_schema.errors import VideoDistillError
from train.config import FeatureSizes, ModelConfig, TrainConfig
from train.model.video_distill import VideoDistill
from train.options import ConfigError


def test_dictionary_and_back():
    config = TrainConfig(model=ModelConfig(selected=3, skip="chained"), lr=1e-3, visual="static")
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["model"]["skip"] == "chained"


def test_an_empty_dictionary_is_the_default():
    assert TrainConfig.from_dict({}) == TrainConfig()


def test_the_paper_values_are_the_defaults():
    assert (ModelConfig().selected, ModelConfig().sampling_blocks) == (16, 3)
    assert (ModelConfig().draws, ModelConfig().sampler) == ("independent", "learned")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"warmup": 3}, "no option 'warmup'; did you mean 'warmup_steps'", id="close"),
        pytest.param({"zzz": 3}, "no option 'zzz'; known: task", id="far"),
        pytest.param({"model": {"select": 3}}, "did you mean 'model.selected'", id="nested"),
        pytest.param({"selected": 8}, "did you mean 'model.selected'", id="one level too high"),
        pytest.param({"sampler": "uniform"}, "mean 'model.sampler'", id="another too high"),
        pytest.param({"mask_shar": 0.2}, "mean 'pretraining.mask_share'", id="of pretraining"),
        pytest.param({"model": {"k": 8}}, "did you mean 'model.selected'", id="the paper's K"),
        pytest.param({"model": {"L": 8}}, "did you mean 'model.sampling_blocks'", id="its L"),
        pytest.param({"k": 8}, "did you mean 'model.selected'", id="K too high"),
        pytest.param({"model": {"selected": "eight"}}, "expected a whole number", id="in words"),
        pytest.param({"model": 3}, "model must be a table, found 3", id="not a table"),
        pytest.param({"lr": "fast"}, "lr is 'fast', expected a number", id="type"),
        pytest.param({"steps": 2.5}, "steps is 2.5", id="not an integer"),
        pytest.param({"steps": True}, "steps is True", id="bool is no integer"),
        pytest.param({"lr": math.nan}, "lr is nan", id="nan"),
        pytest.param({"precision": "fp8"}, r"precision is 'fp8', expected \('fp32'", id="choice"),
        pytest.param({"steps": 0}, "steps is 0, must be at least 1", id="no steps"),
        pytest.param({"lr": 0}, "lr is 0, must be above 0", id="no rate"),
        pytest.param({"seed": -1}, "seed is -1, must be 0 or more", id="seed"),
        pytest.param({"steps": 10, "warmup_steps": 10}, "below steps=10", id="warm-up"),
        pytest.param({"label_smoothing": 1.0}, r"must be in \[0, 1\)", id="smoothing"),
        pytest.param(
            {"task": "choose", "label_smoothing": 0.1},
            "label_smoothing is 0.1, must be 0 but for task='answer'",
            id="smoothing of choices",
        ),
        pytest.param({"model": {"selected": 0}}, "selected is 0", id="no frames"),
        pytest.param({"model": {"sampler_gain": 0.0}}, "sampler_gain is 0.0", id="gain"),
        pytest.param({"model": {"head_dropout": 1.0}}, "head_dropout is 1.0", id="dropout"),
        pytest.param({"model": {"standardise": 1}}, "standardise is 1", id="not a bool"),
    ],
)
def test_refuses_what_it_cannot_run(values, message):
    with pytest.raises(ConfigError, match=message) as caught:
        TrainConfig.from_dict(values)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, VideoDistillError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"selected": 11}, "selected is 11, but the store has 10", id="frames"),
        pytest.param({"selected": 2, "heads": 3}, "heads is 3, which does not divide", id="heads"),
    ],
)
def test_refuses_a_store_that_does_not_fit(options, message):
    with pytest.raises(ConfigError, match=message):
        VideoDistill(ModelConfig(**options), FeatureSizes(dim=16, frames=10, patches=4), 3)
