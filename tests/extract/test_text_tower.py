"""The text tower by itself says what the whole encoder says, and tells words from the rest."""

import json

import numpy as np
import pytest
import torch

from cache_schema import InputError
from extract.encoder import EncoderSpec, load_encoder
from extract.text_tower import OpenClipTextTower

TEXTS = ("a red circle moves", "Stop! Now!", "", "one " * 30)
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


@pytest.fixture(scope="module")
def tower(tiny_spec):
    return OpenClipTextTower(tiny_spec)


def drawn(tmp_path, text, **changes):
    """An encoder of random weights with a text tower of its own."""
    path = tmp_path / "own.json"
    path.write_text(
        json.dumps({"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT | text, **changes})
    )
    return EncoderSpec(model="own", model_config=path, random_init_seed=3)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="CLIP"),
        pytest.param({"custom_text": True}, id="a tower in a part of its own"),
    ],
)
def test_sentences_are_those_of_the_encoder(tmp_path, changes):
    spec = drawn(tmp_path, {}, **changes)
    encoder, tower = load_encoder(spec), OpenClipTextTower(spec)
    expected, truncated = encoder.encode_text(TEXTS)
    with torch.no_grad():
        sentence, words = tower.network(tower.tokens(TEXTS))
    np.testing.assert_allclose(sentence.numpy(), expected, atol=1e-6, rtol=0)
    assert words.shape == (len(TEXTS), 12, tower.width) == (4, 12, 32)
    assert tower.truncated(TEXTS) == truncated == 1
    assert tower.weights_sha256 == encoder.identity(frames=1).weights_sha256


def test_word_tokens_are_what_the_sentence_is_read_from(tower):
    """The sentence is the projection of the word token at the end of text."""
    tokens = tower.tokens(TEXTS)
    sentence, words = tower.network(tokens)
    end = words[torch.arange(len(TEXTS)), tokens.argmax(-1)]
    torch.testing.assert_close(end @ tower.network.clip.text_projection, sentence)


def test_words_are_what_stands_between_start_and_end(tower):
    tokens = tower.tokens(TEXTS)
    start, end = 49406, 49407
    for row, is_word in zip(tokens.tolist(), tower.is_word(tokens).tolist(), strict=True):
        inside = range(1, row.index(end))
        assert [place in inside for place in range(12)] == is_word
        assert row[0] == start
    assert tower.is_word(tower.tokens([""])).sum() == 0


def test_a_text_that_begins_with_the_padding_token_keeps_it_as_a_word(tower):
    """Token 0 of CLIP is an exclamation mark before other signs, and what follows the end of text."""
    tokens = tower.tokens(["!~!"])
    assert tokens[0, 1] == 0
    assert tower.is_word(tokens)[0].nonzero().flatten().tolist() == [1, 2]


def test_the_mask_never_stands_in_a_sentence_and_moves_no_end(tower):
    tokens = tower.tokens(TEXTS)
    assert not (tokens == tower.mask_id)[tower.is_word(tokens)].any()
    masked = tokens.masked_fill(tower.is_word(tokens), tower.mask_id)
    assert torch.equal(masked.argmax(-1), tokens.argmax(-1))
    assert not tower.is_word(masked).any()


def test_every_weight_can_learn_and_no_eye_is_left(tower):
    names = [name for name, _ in tower.network.named_parameters()]
    assert names
    assert not [name for name in names if "visual" in name or "logit" in name]
    tower.network.requires_grad_(True)
    sentence, _ = tower.network(tower.tokens(TEXTS[:2]))
    sentence.square().sum().backward()
    assert all(parameter.grad is not None for parameter in tower.network.parameters())


def test_the_tokenizer_of_another_model_is_an_error(tmp_path):
    tower = OpenClipTextTower(drawn(tmp_path, {"vocab_size": 60}))
    with pytest.raises(InputError, match="belongs to another model"):
        tower.tokens(["red"])
