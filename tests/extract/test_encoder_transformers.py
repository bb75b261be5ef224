"""Features against an independent implementation: Hugging Face transformers, with equal weights."""

import json

import numpy as np
import open_clip
import pytest
import torch
import transformers

from cache_schema import Preprocess
from extract.encoder import load_encoder
from extract.encoder_spec import EncoderSpec
from extract.model_loading import load_model
from extract.vision_tower import vision_tower

CLOSE = {"atol": 1e-4, "rtol": 0.0}
SENTENCES = ["a red circle left of the blue square", "what happens?", "word " * 90]


def random_spec(model, **changes):
    return EncoderSpec(model=model, random_init_seed=11, **changes)


def unsettled(model):
    """Adds noise: fresh norms are identities and biases zeros, and a forgotten one would not show."""
    generator = torch.Generator().manual_seed(4)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def given(kind, config, numbers):
    """A model of transformers with these numbers; drawing its own would take seconds."""
    with torch.device("meta"):
        model = kind(config)
    model = model.to_empty(device="cpu")
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids")
        buffer.copy_(torch.arange(buffer.shape[-1])[None])
    model.load_state_dict(numbers, strict=True)
    return model.eval()


def attention(state, prefix, target):
    """open_clip keeps the three projections of attention in one matrix."""
    for kind in ("weight", "bias"):
        parts = state[f"{prefix}.in_proj_{kind}"].chunk(3)
        for name, part in zip("qkv", parts, strict=True):
            yield f"{target}.{name}_proj.{kind}", part
        yield f"{target}.out_proj.{kind}", state[f"{prefix}.out_proj.{kind}"]


def block(state, prefix, target):
    """One residual block of open_clip's transformer under transformers' names."""
    yield from attention(state, f"{prefix}.attn", f"{target}.self_attn")
    names = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}  # fmt: skip
    for ours, theirs in names.items():
        for kind in ("weight", "bias"):
            yield f"{target}.{theirs}.{kind}", state[f"{prefix}.{ours}.{kind}"]


def renamed(state, names):
    for ours, theirs in names.items():
        for kind in ("", ".weight", ".bias"):
            if ours + kind in state:
                yield theirs + kind, state[ours + kind]


def clip_of_transformers(model, config):
    """The same model, built by transformers and given open_clip's numbers."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    theirs = transformers.CLIPConfig(
        vision_config={
            "hidden_size": vision["width"],
            "intermediate_size": vision["width"] * 4,
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_act": activation,
        },
        text_config={
            "hidden_size": text["width"],
            "intermediate_size": text["width"] * 4,
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "hidden_act": activation,
            "eos_token_id": 49407,
            "bos_token_id": 49406,
        },
        projection_dim=config["embed_dim"],
    )
    state = model.state_dict()
    mapped = dict(
        renamed(
            state,
            {
                "visual.conv1": "vision_model.embeddings.patch_embedding",
                "visual.class_embedding": "vision_model.embeddings.class_embedding",
                "visual.ln_pre": "vision_model.pre_layrnorm",
                "visual.ln_post": "vision_model.post_layernorm",
                "token_embedding": "text_model.embeddings.token_embedding",
                "ln_final": "text_model.final_layer_norm",
                "logit_scale": "logit_scale",
            },
        )
    )
    mapped["vision_model.embeddings.position_embedding.weight"] = state[
        "visual.positional_embedding"
    ]
    mapped["text_model.embeddings.position_embedding.weight"] = state["positional_embedding"]
    mapped["visual_projection.weight"] = state["visual.proj"].T
    mapped["text_projection.weight"] = state["text_projection"].T
    for layer in range(vision["layers"]):
        target = f"vision_model.encoder.layers.{layer}"
        mapped.update(block(state, f"visual.transformer.resblocks.{layer}", target))
    for layer in range(text["layers"]):
        target = f"text_model.encoder.layers.{layer}"
        mapped.update(block(state, f"transformer.resblocks.{layer}", target))
    return given(transformers.CLIPModel, theirs, mapped)


@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-32",
        pytest.param("ViT-B-16", marks=pytest.mark.slow),
        pytest.param("ViT-B-32-quickgelu", marks=pytest.mark.slow),
    ],
)
def test_clips_tokens_are_those_of_transformers(name):
    """Pooled and patch tokens, in both token spaces, max abs difference < 1e-4 in fp32."""
    spec = random_spec(name)
    model = unsettled(load_model(spec, spec.architecture))
    theirs = clip_of_transformers(model, open_clip.get_model_config(name))
    pictures = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        hidden = theirs.vision_model(pictures).last_hidden_state
        trunk = theirs.vision_model.post_layernorm(hidden)
        joint = theirs.visual_projection(trunk)
        tower = vision_tower(model.visual, spec.architecture, torch.float32)
        pooled, patch = tower.trunk_tokens(tower.body(pictures))
        torch.testing.assert_close(pooled, trunk[:, 0], **CLOSE)
        torch.testing.assert_close(patch, trunk[:, 1:], **CLOSE)
        torch.testing.assert_close(tower.project(pooled), joint[:, 0], **CLOSE)
        torch.testing.assert_close(tower.project(patch), joint[:, 1:], **CLOSE)
    assert patch.shape[1] == spec.architecture.patches


@pytest.mark.parametrize("name", ["ViT-B-32", pytest.param("ViT-B-16", marks=pytest.mark.slow)])
def test_clips_stored_features_and_sentences_are_those_of_transformers(name):
    """From 8-bit pictures to float16 and from sentences to vectors, by the public calls."""
    spec = random_spec(name)
    encoder = load_encoder(spec)
    theirs = clip_of_transformers(
        load_model(spec, spec.architecture), open_clip.get_model_config(name)
    )
    pixels = np.random.default_rng(3).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    normal = (pixels / 255.0 - encoder.preprocess.mean) / encoder.preprocess.std
    with torch.inference_mode():
        pictures = torch.from_numpy(normal).float().permute(0, 3, 1, 2)
        hidden = theirs.vision_model(pictures).last_hidden_state
        joint = theirs.visual_projection(theirs.vision_model.post_layernorm(hidden)).numpy()
        tokens = open_clip.get_tokenizer(name)(SENTENCES)
        sentences = theirs.text_projection(theirs.text_model(tokens).pooler_output).numpy()
    cls, patch = encoder.encode_frames(pixels)
    # Half a unit of float16 in the last place, and the tolerance of the arithmetic.
    np.testing.assert_allclose(cls, joint[:, 0], rtol=2**-11, atol=1e-4)
    np.testing.assert_allclose(patch, joint[:, 1:], rtol=2**-11, atol=1e-4)
    ours, truncated = encoder.encode_text(SENTENCES)
    np.testing.assert_allclose(ours, sentences, rtol=0.0, atol=1e-4)
    assert truncated == 1


SIGLIP = {
    "embed_dim": 768,
    "custom_text": True,
    "init_logit_bias": -10,
    "vision_cfg": {
        "image_size": 256,
        "timm_model_name": "vit_base_patch32_siglip_256",
        "timm_pool": "map",
        "timm_proj": "none",
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 60,
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "width": 96,
        "heads": 3,
        "layers": 2,
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    },
}
SIGLIP_PREPROCESS = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A tokenizer in files, as SigLIP's repositories hold one: words, padding, end of text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    special = {"unk_token": "<unk>", "pad_token": "<pad>", "eos_token": "</s>"}
    built = Tokenizer(models.WordLevel(unk_token=special["unk_token"]))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<pad>", "</s>", "<unk>"])
    built.train_from_iterator([" ".join(SENTENCES)], trainer)
    built.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    transformers.PreTrainedTokenizerFast(tokenizer_object=built, **special).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip_spec(tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("siglip") / "open_clip_config.json"
    path.write_text(json.dumps({"model_cfg": SIGLIP, "preprocess_cfg": SIGLIP_PREPROCESS}))
    return random_spec("small-siglip", model_config=path, tokenizer=tokenizer)


def timm_block(state, prefix, target):
    names = {"norm1": "layer_norm1", "norm2": "layer_norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}  # fmt: skip
    for kind in ("weight", "bias"):
        for name, part in zip("qkv", state[f"{prefix}.attn.qkv.{kind}"].chunk(3), strict=True):
            yield f"{target}.self_attn.{name}_proj.{kind}", part
        yield f"{target}.self_attn.out_proj.{kind}", state[f"{prefix}.attn.proj.{kind}"]
        for ours, theirs in names.items():
            yield f"{target}.{theirs}.{kind}", state[f"{prefix}.{ours}.{kind}"]


def siglip_of_transformers(model):
    """transformers' SigLIP with the numbers of open_clip's, a timm trunk and a text tower."""
    trunk = model.visual.trunk
    assert trunk.num_prefix_tokens == 0
    layers = len(trunk.blocks)
    activation = type(trunk.blocks[0].mlp.act).__name__
    theirs = transformers.SiglipConfig(
        vision_config={
            "hidden_size": trunk.embed_dim,
            "intermediate_size": trunk.blocks[0].mlp.fc1.out_features,
            "num_hidden_layers": layers,
            "num_attention_heads": trunk.blocks[0].attn.num_heads,
            "image_size": 256,
            "patch_size": 32,
            "hidden_act": {"GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh"}[activation],
            "layer_norm_eps": trunk.norm.eps,
        },
        text_config={
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "vocab_size": 60,
            "max_position_embeddings": 16,
            "hidden_act": "gelu",
            "projection_size": trunk.embed_dim,
        },
    )
    state = model.state_dict()
    vision, pool = "vision_model", "visual.trunk.attn_pool"
    mapped = dict(
        renamed(
            state,
            {
                "visual.trunk.patch_embed.proj": f"{vision}.embeddings.patch_embedding",
                "visual.trunk.norm": f"{vision}.post_layernorm",
                f"{pool}.latent": f"{vision}.head.probe",
                f"{pool}.proj": f"{vision}.head.attention.out_proj",
                f"{pool}.norm": f"{vision}.head.layernorm",
                f"{pool}.mlp.fc1": f"{vision}.head.mlp.fc1",
                f"{pool}.mlp.fc2": f"{vision}.head.mlp.fc2",
                "text.token_embedding": "text_model.embeddings.token_embedding",
                "text.ln_final": "text_model.final_layer_norm",
                "text.text_projection": "text_model.head",
            },
        )
    )
    for kind in ("weight", "bias"):
        mapped[f"{vision}.head.attention.in_proj_{kind}"] = torch.cat(
            [state[f"{pool}.q.{kind}"], state[f"{pool}.kv.{kind}"]]
        )
    mapped[f"{vision}.embeddings.position_embedding.weight"] = state["visual.trunk.pos_embed"][0]
    mapped["text_model.embeddings.position_embedding.weight"] = state["text.positional_embedding"]
    for layer in range(layers):
        mapped.update(
            timm_block(state, f"visual.trunk.blocks.{layer}", f"{vision}.encoder.layers.{layer}")
        )
    for layer in range(2):
        target = f"text_model.encoder.layers.{layer}"
        mapped.update(block(state, f"text.transformer.resblocks.{layer}", target))
    mapped |= {scale: torch.zeros(1) for scale in ("logit_scale", "logit_bias")}
    return given(transformers.SiglipModel, theirs, mapped)


@pytest.fixture(scope="module")
def siglip_model(siglip_spec):
    return siglip_of_transformers(load_model(siglip_spec, siglip_spec.architecture))


def test_siglips_tokens_are_those_of_transformers(siglip_spec):
    """The pooled token is the attention pooling's; patches are the last hidden state."""
    architecture = siglip_spec.architecture
    model = unsettled(load_model(siglip_spec, architecture))
    siglip = siglip_of_transformers(model)
    pictures = torch.randn(2, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        tower = vision_tower(model.visual, architecture, torch.float32)
        theirs = siglip.vision_model(pictures)
        pooled, patch = tower.trunk_tokens(tower.body(pictures))
        torch.testing.assert_close(patch, theirs.last_hidden_state, **CLOSE)
        torch.testing.assert_close(pooled, theirs.pooler_output, **CLOSE)
        assert torch.equal(tower.project(pooled), pooled)
        assert torch.equal(tower.project(patch), patch)


def test_siglips_preprocessing_is_used(siglip_spec, siglip_model):
    encoder = load_encoder(siglip_spec)
    assert encoder.preprocess == Preprocess(
        image_size=256,
        resize_mode="squash",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    pixels = np.random.default_rng(3).integers(0, 256, (2, 256, 256, 3), dtype=np.uint8)
    normal = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        theirs = siglip_model.vision_model(normal)
    cls, patch = encoder.encode_frames(pixels)
    np.testing.assert_allclose(cls, theirs.pooler_output.numpy(), rtol=2**-11, atol=1e-4)
    np.testing.assert_allclose(patch, theirs.last_hidden_state.numpy(), rtol=2**-11, atol=1e-4)


def test_siglips_sentences_are_those_of_transformers(siglip_spec, siglip_model, tokenizer):
    texts = ["A red circle, left of the blue square!", "what happens?", "word " * 15, "word " * 16]
    plain = [text.lower().replace(",", "").replace("!", "").replace("?", "") for text in texts]
    read = transformers.AutoTokenizer.from_pretrained(tokenizer)
    ids = read(plain, padding="max_length", max_length=16, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        expected = siglip_model.text_model(ids.input_ids).pooler_output.numpy()
    ours, truncated = load_encoder(siglip_spec).encode_text(texts)
    np.testing.assert_allclose(ours, expected, rtol=0.0, atol=1e-4)
    assert truncated == 1  # of 16 words and an end, into 16 tokens
