"""The tower that a run is given is the one that encoded its sentences."""

from pathlib import Path

import numpy as np
import pytest

from cache_schema import InputError, SentenceTable
from extract.encoder import load_encoder
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.encoders import EncoderFiles, encoder_spec
from pipelines.text_tower import tower_loader
from train.config import ModelConfig, TrainConfig
from train.text_tower import sentence_features, tower_for

TEXTS = ("a red circle moves left", "what colour is the star?", "two " * 40)
TUNED = TrainConfig(model=ModelConfig(text="finetune"))


@pytest.fixture(scope="module")
def sentences() -> SentenceTable:
    encoder = load_encoder(encoder_spec(None, "demo"))
    features, truncated = encoder.encode_text(TEXTS)
    return SentenceTable(
        texts=TEXTS,
        features=features,
        encoder=encoder.spec.model,
        weights_sha256=encoder.identity(frames=1).weights_sha256,
        context_length=encoder.context_length,
        truncated=truncated,
    )


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(EncoderFiles(), id="the demo's is found"),
        pytest.param(
            EncoderFiles(weights=WEIGHTS_PATH, model_config=CONFIG_PATH), id="named as any other"
        ),
    ],
)
def test_a_frozen_tower_equals_the_sentence_table(sentences, files):
    tower = tower_for(TUNED, sentences, tower_loader(sentences, files))
    assert tower is not None
    found = sentence_features(TEXTS, sentences, tower, TUNED)
    np.testing.assert_allclose(found, sentences.lookup(TEXTS), atol=1e-6, rtol=0)
    assert tower.truncated(TEXTS) == sentences.truncated == 1


def test_weights_that_are_nowhere_are_asked_for(sentences):
    other = SentenceTable(
        texts=("red",),
        features=np.zeros((1, 4), np.float32),
        encoder="ViT-B-16",
        weights_sha256="a" * 64,
        context_length=77,
        truncated=0,
    )
    with pytest.raises(InputError, match=r"tower of ViT-B-16, .*--weights \(SHA-256 aaaa"):
        tower_for(TUNED, other, tower_loader(other, EncoderFiles()))


def test_nothing_is_read_before_it_is_asked_for(sentences):
    absent = EncoderFiles(weights=Path("absent.safetensors"), model_config=CONFIG_PATH)
    load = tower_loader(sentences, absent)
    with pytest.raises(InputError, match=r"absent\.safetensors cannot be read"):
        load()
