import json
import sys

import pytest

from cache_schema import InputError
from extract.encoder import load_encoder
from extract.encoder_spec import EncoderSpec
from extract.text_tower import OpenClipTextTower

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}


def spec_of(tmp_path, text, **changes):
    text = {"context_length": 6, "vocab_size": 60, "width": 16, "heads": 1, "layers": 1, **text}
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"embed_dim": 8, "vision_cfg": VISION, "text_cfg": text}))
    return EncoderSpec(model="own", model_config=path, random_init_seed=0, **changes)


def word_tokenizer(folder, words, end="</s>"):
    """A tokenizer in files: one token a word, and an end of text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["<pad>", end, "<unk>", *words])}
    special = {"unk_token": "<unk>", "pad_token": "<pad>", "sep_token": end}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, 1)]
    )
    PreTrainedTokenizerFast(tokenizer_object=built, **special).save_pretrained(folder)
    return folder


FILES = {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}


def test_sentences_are_cleaned_counted_and_cut(tmp_path):
    folder = word_tokenizer(tmp_path / "t", ["red", "circle"])
    kwargs = {"tokenizer_kwargs": {"clean": "canonicalize"}}
    encoder = load_encoder(spec_of(tmp_path, FILES | kwargs, tokenizer=folder))
    vectors, truncated = encoder.encode_text(
        ["Red, circle!", "red circle", "red " * 5, "red " * 6, "red " * 9]
    )
    assert (vectors[0] == vectors[1]).all()
    assert not (vectors[0] == vectors[2]).all()
    assert truncated == 2  # five words and an end fill six tokens
    assert encoder.context_length == 6


def test_an_end_of_text_is_taken_off_where_the_model_was_trained_so(tmp_path):
    """CLIPA's sentences end in a zero where BERT's would end in [SEP]."""
    folder = word_tokenizer(tmp_path / "t", ["red"])
    first = load_encoder(spec_of(tmp_path, FILES, tokenizer=folder))
    stripped = FILES | {"tokenizer_kwargs": {"strip_sep_token": True}}
    second = load_encoder(spec_of(tmp_path, stripped, tokenizer=folder))
    tokens = [encoder._sentence_tokens.tokens(["red"])[0].tolist() for encoder in (first, second)]
    assert tokens == [[3, 1, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]]


def test_a_tokenizer_may_lie_beside_the_weights(tmp_path, tiny_spec):
    config = json.loads(tiny_spec.model_config.read_text())
    config["text_cfg"]["hf_tokenizer_name"] = "timm/ViT-B-16-SigLIP"
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(tiny_spec.weights.read_bytes())
    word_tokenizer(tmp_path, ["red"])
    assert load_encoder(EncoderSpec(model="t", weights=weights)).encode_text(["red"])[1] == 0


def test_a_tokenizer_in_files_has_words_and_perhaps_no_mask(tmp_path):
    folder = word_tokenizer(tmp_path / "t", ["red", "circle"])
    tower = OpenClipTextTower(spec_of(tmp_path, FILES, tokenizer=folder))
    tokens = tower.tokens(["red circle", "red"])
    assert tower.is_word(tokens).sum(-1).tolist() == [2, 1]
    assert tower.mask_id is None


def test_an_absent_tokenizer_says_what_to_fetch(tmp_path):
    spec = spec_of(tmp_path, FILES, tokenizer=tmp_path)
    encoder = load_encoder(spec)  # features need none
    with pytest.raises(InputError, match="hf download timm/ViT-B-16-SigLIP"):
        encoder.encode_text(["red"])


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read"), ('{"version": "1.0"}', "cannot be read")],
    ids=["cut", "empty"],
)
def test_a_broken_tokenizer_is_an_error(tmp_path, content, message):
    folder = word_tokenizer(tmp_path / "t", ["red"])
    (folder / "tokenizer.json").write_text(content)
    encoder = load_encoder(spec_of(tmp_path, FILES, tokenizer=folder))
    with pytest.raises(InputError, match=message):
        encoder.encode_text(["red"])


def test_the_tokenizer_of_another_model_is_an_error(tmp_path):
    words = [f"w{number}" for number in range(80)]
    folder = word_tokenizer(tmp_path / "t", words)
    encoder = load_encoder(spec_of(tmp_path, FILES, tokenizer=folder))
    assert encoder.encode_text(["w1"])[0].shape == (1, 8)
    with pytest.raises(InputError, match="belongs to another model"):
        encoder.encode_text(["w79"])


@pytest.mark.parametrize(
    "text",
    [
        FILES | {"tokenizer_kwargs": {"trust_remote_code": True}},
        FILES | {"tokenizer_mode": "clips"},
        {"tokenizer_kwargs": {"bpe_path": "/etc/passwd"}},
    ],
    ids=["remote code", "mode", "path"],
)
def test_a_configuration_cannot_hand_options_to_transformers(tmp_path, text):
    encoder = load_encoder(spec_of(tmp_path, text, tokenizer=tmp_path))
    with pytest.raises(InputError, match="options that are not known"):
        encoder.encode_text(["red"])


def test_without_transformers_it_says_what_to_install(tmp_path, monkeypatch):
    folder = word_tokenizer(tmp_path / "t", ["red"])
    encoder = load_encoder(spec_of(tmp_path, FILES, tokenizer=folder))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"videodistill-cache\[tokenizers\]"):
        encoder.encode_text(["red"])
