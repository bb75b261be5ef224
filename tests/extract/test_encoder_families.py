"""Every family of towers against the model's own calls, with small towers of random weights."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cache_schema import InputError
from extract.encoder import load_encoder
from extract.encoder_spec import EncoderSpec
from extract.model_architecture import built_in_models, read_architecture
from extract.model_loading import load_model
from extract.vision_tower import vision_tower

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CLIPA = {"image_size": 48, "layers": 2, "width": 48, "head_width": 16, "patch_size": 16}


def timm(name, pool, projection, embed_dim, size=224):
    tower = {
        "timm_model_name": name, "timm_pool": pool, "timm_proj": projection, "image_size": size
    }  # fmt: skip
    return {"embed_dim": embed_dim, "custom_text": True, "vision_cfg": tower, "text_cfg": TEXT}


CONFIGS = {
    "clip": {"embed_dim": 24, "vision_cfg": CLIPA, "text_cfg": TEXT},
    "clip-mean": {
        "embed_dim": 24,
        "vision_cfg": {**CLIPA, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT,
    },
    "clip-mean, norm first": {
        "embed_dim": 24,
        "vision_cfg": {**CLIPA, "pool_type": "avg"},
        "text_cfg": TEXT,
    },
    "siglip": timm("test_vit3", "map", "none", 96, 160),
    "eva": timm("eva02_tiny_patch14_224", "token", None, 40),
    "timm-token": timm("test_vit", "token", None, 40, 160),
    "timm-mean": timm("test_vit4", "avg", "linear", 40, 160),
    "relpos": timm("test_vit_relpos", "", "linear", 40, 160),
    "pe": timm("vit_pe_core_tiny_patch16_384", "map", None, 40, 384),
}


@pytest.fixture(scope="module", params=CONFIGS.items(), ids=CONFIGS)
def spec(request, tmp_path_factory):
    """A model of the family, saved as anybody's weights would be."""
    name, config = request.param
    folder = tmp_path_factory.mktemp("family")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    space = "trunk" if name == "pe" else "joint"
    drawn = EncoderSpec(
        model="small",
        model_config=folder / "open_clip_config.json",
        random_init_seed=3,
        token_space=space,
    )
    model = load_model(drawn, drawn.architecture)
    generator = torch.Generator().manual_seed(1)
    state = {
        # Norms begin as identities and biases as zeros: a recipe that forgot one would not show.
        key: value + 0.02 * torch.randn(value.shape, generator=generator)
        if value.is_floating_point()
        else value
        for key, value in model.state_dict().items()
    }
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "w.safetensors")
    return EncoderSpec(model="small", weights=folder / "w.safetensors", token_space=space)


@pytest.fixture(scope="module")
def model(spec):
    """The model as open_clip builds it, untouched."""
    return load_model(spec, spec.architecture)


@pytest.fixture(scope="module")
def pictures(spec):
    size = spec.architecture.image_size
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))


def by_hand(model, pictures, family):
    """Trunk tokens by the model's own calls: pooled [B, W], patches [B, P, W], projection."""
    visual = model.visual
    if not family.startswith("timm"):
        raw = visual.transformer(visual._embeds(pictures))
        patch = visual.ln_post(raw[:, 1:])
        if family == "clip":
            pooled = visual.ln_post(raw[:, 0])
        elif visual.final_ln_after_pool:
            pooled = visual.ln_post(raw[:, 1:].mean(1))
        else:
            pooled = patch.mean(1)
        return pooled, patch, lambda tokens: tokens @ visual.proj
    trunk = visual.trunk
    tokens = trunk.forward_features(pictures)
    patch = trunk.fc_norm(tokens[:, trunk.num_prefix_tokens :])
    pooled = {
        "timm-token": lambda: trunk.fc_norm(tokens[:, 0]),
        "timm-mean": lambda: trunk.fc_norm(tokens[:, trunk.num_prefix_tokens :].mean(1)),
        "timm-map": lambda: trunk.attn_pool(
            tokens if getattr(trunk, "pool_include_prefix", True) else patch
        ),
    }[family]()
    return pooled, patch, lambda tokens: visual.head(trunk.head(tokens))


def test_tokens_are_those_of_the_models_own_calls(spec, model, pictures):
    architecture = spec.architecture
    with torch.inference_mode():
        pooled, patch, project = by_hand(model, pictures, architecture.family)
        feature = model.encode_image(pictures)
        expected = [pooled, patch, project(pooled)]
        tower = vision_tower(load_model(spec, architecture).visual, architecture, torch.float32)
        ours = tower.trunk_tokens(tower.body(pictures))
        torch.testing.assert_close(ours[0], expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours[1], expected[1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tower.project(ours[0]), feature, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tower.project(ours[1]), project(patch), atol=1e-5, rtol=1e-5)
    assert patch.shape == (2, architecture.patches, architecture.width)
    assert feature.shape == (2, architecture.embed_dim)


@pytest.mark.parametrize(
    ("precision", "cosine"),
    [("bf16", 0.999), pytest.param("fp16", 0.99999, marks=pytest.mark.slow)],
)
def test_low_precision_is_close_in_every_family(spec, precision, cosine):
    size = spec.architecture.image_size
    pixels = np.random.default_rng(5).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    low = EncoderSpec(
        model="small", weights=spec.weights, token_space=spec.token_space, precision=precision
    )
    ours, reference = load_encoder(low), load_encoder(spec)
    for left, right in zip(
        ours.encode_frames(pixels), reference.encode_frames(pixels), strict=True
    ):
        tensors = torch.from_numpy(left).double(), torch.from_numpy(right).double()
        assert torch.cosine_similarity(*tensors, dim=-1).min() > cosine


def test_sentences_are_those_of_the_models_own_call(spec, model):
    from open_clip.tokenizer import SimpleTokenizer

    texts = ["a red circle", "word " * 30]
    vectors, truncated = load_encoder(spec).encode_text(texts)
    with torch.inference_mode():
        expected = model.encode_text(SimpleTokenizer(context_length=12)(texts))
    torch.testing.assert_close(torch.from_numpy(vectors), expected, atol=1e-6, rtol=1e-5)
    assert truncated == 1


def test_in_a_mean_family_the_pooled_token_is_the_mean_of_the_patches(tmp_path):
    """What a projection without bias behind a norm before the mean promises."""
    config = tmp_path / "c.json"
    config.write_text(json.dumps(CONFIGS["clip-mean, norm first"]))
    encoder = load_encoder(EncoderSpec(model="m", model_config=config, random_init_seed=0))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    cls, patch = encoder.encode_frames(pixels)
    np.testing.assert_allclose(patch.astype(np.float32).mean(1), cls, atol=2e-3)


def test_patches_have_no_place_behind_an_attention_pooling():
    spec = EncoderSpec(model="PE-Core-T-16-384", random_init_seed=0)
    with pytest.raises(InputError, match="Use the token space trunk"):
        load_encoder(spec)


WITHOUT_GRID = ("RN", "coca_", "convnext_", "swin_", "MobileCLIP-S", "MobileCLIP2-S")
OF_TIMM = (
    "EVA",
    "MobileCLIP",
    "PE-",
    "ViTamin",
    "convnext_",
    "swin_",
    "vit_",
    "ViT-gopt",
    "ViT-SO",
)
WITH_HUB_TEXT = ("roberta-", "xlm-roberta-", "mt5-", "nllb-")


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([n for n in built_in_models() if not n.startswith(OF_TIMM)], id="clip"),
        pytest.param(
            ["EVA02-B-16", "PE-Core-S-16-384", "ViTamin-XL-384", "convnext_base", "MobileCLIP-S1"],
            id="some of timm",
        ),
        pytest.param(built_in_models(), id="all", marks=pytest.mark.slow),
    ],
)
def test_every_model_of_open_clip_is_supported_or_refused_with_the_reason(names):
    """A new open_clip may bring new models: they must fall on one side, and this list is by name."""
    for name in names:
        if name.startswith((*WITHOUT_GRID, *WITH_HUB_TEXT)):
            reason = "text tower" if name.startswith(WITH_HUB_TEXT) else "describes"
            with pytest.raises(InputError, match=f"{reason}.*Supported are"):
                read_architecture(name)
        elif name == "ViTamin-XL-384":
            with pytest.raises(InputError, match="contradicts itself"):
                read_architecture(name)
        else:
            architecture = read_architecture(name)
            assert architecture.patches >= 49, name
            assert architecture.dim(joint=False) >= 192, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in built_in_models() if not n.startswith((*WITHOUT_GRID, *WITH_HUB_TEXT))]
)
def test_configuration_and_model_agree(name):
    """The numbers that name a store before any model is built, against the model itself."""
    import open_clip

    if name == "ViTamin-XL-384":
        pytest.skip("refused: its configuration contradicts itself")
    architecture = read_architecture(name)
    with torch.device("meta"):
        model = open_clip.create_model(name, load_weights=False, device="meta")
        tower = vision_tower(model.visual, architecture, torch.float32)
        pictures = torch.empty(1, 3, architecture.image_size, architecture.image_size)
        pooled, patch = tower.trunk_tokens(tower.body(pictures))
        feature = tower.project(pooled)
    assert patch.shape == (1, architecture.patches, architecture.width)
    assert feature.shape == (1, architecture.embed_dim)
    assert architecture.has_joint_patches is not name.startswith("PE-Core")
