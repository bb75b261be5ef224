"""What local weight files want is known or asked for: open_clip would build the wrong model silently."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cache_schema import InputError
from extract.encoder import load_encoder
from extract.encoder_spec import EncoderSpec, identity_of
from extract.model_loading import load_model

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
HALF = (0.5, 0.5, 0.5)


def architecture(tmp_path, model, tag=None):
    return EncoderSpec(
        model=model, weights=tmp_path / "w.safetensors", pretrained_tag=tag
    ).architecture


@pytest.mark.parametrize(
    ("model", "tag", "mean", "mode", "interpolation"),
    [
        ("ViT-L-14", "laion2b_s32b_b82k", HALF, "shortest", "bicubic"),
        ("ViT-L-14", "datacomp_xl_s13b_b90k", OPENAI_MEAN, "shortest", "bicubic"),
        ("ViT-B-32-quickgelu", "openai", OPENAI_MEAN, "shortest", "bicubic"),
        ("ViT-H-14-quickgelu", "dfn5b", OPENAI_MEAN, "squash", "bicubic"),
        ("ViT-B-16-SigLIP", "webli", HALF, "squash", "bicubic"),
        ("ViT-L-14-CLIPA", "datacomp1b", (0.485, 0.456, 0.406), "squash", "bilinear"),
        # Unambiguous: all that is published wants the same.
        ("ViT-B-16-SigLIP", None, HALF, "squash", "bicubic"),
        ("PE-Core-S-16-384", None, HALF, "squash", "bilinear"),
        ("MobileCLIP-B", None, (0.0, 0.0, 0.0), "shortest", "bilinear"),
        ("ViT-B-32-quickgelu", None, OPENAI_MEAN, "shortest", "bicubic"),
        # One's own weights, trained with the model as open_clip builds it.
        ("ViT-B-32", "own", OPENAI_MEAN, "shortest", "bicubic"),
        ("ViT-B-16-SigLIP", "own", HALF, "squash", "bicubic"),
        # Nothing is published.
        ("ViT-S-32", None, OPENAI_MEAN, "shortest", "bicubic"),
    ],
)
def test_pictures_are_prepared_as_the_weights_were_trained(
    tmp_path, model, tag, mean, mode, interpolation
):
    spec = EncoderSpec(
        model=model,
        weights=tmp_path / "w.safetensors",
        pretrained_tag=tag,
        token_space="trunk",  # noqa: S106 -- no password
    )
    found = spec.architecture.preprocess
    assert (found.mean, found.resize_mode, found.interpolation) == (mean, mode, interpolation)


@pytest.mark.parametrize(
    ("model", "tag", "message"),
    [
        ("ViT-B-32", "openai", "Use ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "knows no weights"),
        ("ViT-B-32", "nonsense", "knows no weights"),
        ("ViT-B-32", None, "without QuickGELU.*want the opposite.*a tag of ViT-B-32-quickgelu"),
        ("ViT-L-14-336", None, "features would be wrong without any error"),
        ("ViT-H-14-quickgelu", None, "differ in their preprocessing.*dfn5b"),
        ("ViT-L-14", "own", "differ in their preprocessing.*preprocess_cfg"),
    ],
)
def test_what_is_ambiguous_or_wrong_is_refused(tmp_path, model, tag, message):
    with pytest.raises(InputError, match=message):
        architecture(tmp_path, model, tag)


def test_a_configuration_that_contradicts_the_tag_is_refused(tmp_path):
    config = open_clip.get_model_config("ViT-B-32")
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": list(HALF)}}))
    spec = EncoderSpec(
        model="ViT-B-32",
        weights=tmp_path / "w.safetensors",
        model_config=path,
        pretrained_tag="laion2b_s34b_b79k",
    )
    with pytest.raises(InputError, match="trained with mean"):
        assert spec.architecture


def beside(tmp_path, config, preprocess=None):
    """Lays a configuration beside weights, as repositories of the hub do."""
    document = {"model_cfg": config, "preprocess_cfg": preprocess or {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(document))
    return tmp_path / "open_clip_model.safetensors"


def test_a_configuration_beside_the_weights_answers(tmp_path):
    config = open_clip.get_model_config("ViT-L-14")
    weights = beside(tmp_path, config, {"mean": list(HALF), "std": list(HALF)})
    found = EncoderSpec(model="ViT-L-14", weights=weights).architecture
    assert (found.preprocess.mean, found.quick_gelu) == (HALF, False)


@pytest.mark.parametrize(
    ("named", "there", "message"),
    [
        ("ViT-B-32", "ViT-B-32-quickgelu", "quick_gelu True there, False in ViT-B-32"),
        ("ViT-B-32", "ViT-B-16", "patches 196 there, 49 in ViT-B-32"),
    ],
)
def test_weights_of_another_model_are_found_out(tmp_path, named, there, message):
    weights = beside(tmp_path, open_clip.get_model_config(there))
    with pytest.raises(InputError, match=message):
        assert EncoderSpec(model=named, weights=weights).architecture


def test_a_model_of_ones_own_may_lie_beside_its_weights(tiny_spec, tmp_path):
    weights = beside(tmp_path, json.loads(tiny_spec.model_config.read_text()))
    weights.write_bytes(tiny_spec.weights.read_bytes())
    ours = load_encoder(EncoderSpec(model="tiny", weights=weights))
    assert ours.identity(4) == identity_of(tiny_spec, 4)


def test_position_embeddings_of_another_picture_size_are_not_stretched(tiny_spec, tmp_path):
    """open_clip's own loader resizes them until they fit, and says nothing."""
    config = json.loads(tiny_spec.model_config.read_text())
    config["vision_cfg"]["image_size"] = 48
    path = tmp_path / "larger.json"
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"visual\.positional_embedding"):
        load_encoder(EncoderSpec(model="tiny", model_config=path, weights=tiny_spec.weights))


def test_loss_scales_may_be_absent_or_of_another_shape(tiny_spec, tmp_path):
    state = dict(load_model(tiny_spec, tiny_spec.architecture).state_dict())
    state["logit_scale"] = state["logit_scale"].reshape(1)
    save_file({name: value.contiguous() for name, value in state.items()}, tmp_path / "a.pt")
    (tmp_path / "a.pt").rename(tmp_path / "a.safetensors")
    state.pop("logit_scale")
    torch.save(state, tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        load_encoder(
            EncoderSpec(model="tiny", model_config=tiny_spec.model_config, weights=tmp_path / name)
        )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf-hub:timm/vit_tiny_patch16_224", "has no trunk"),
        ("local-dir:/tmp/anything", "has no trunk"),
        ("no_such_trunk", "has no trunk"),
        ("convnext_atto", "no grid of patch tokens"),
    ],
)
def test_a_configuration_cannot_make_timm_fetch_or_read_anything(tmp_path, name, message):
    config = {
        "embed_dim": 8,
        "vision_cfg": {"timm_model_name": name, "image_size": 224},
        "text_cfg": {"context_length": 8, "width": 8, "heads": 1, "layers": 1},
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps(config))
    spec = EncoderSpec(model="own", model_config=path, random_init_seed=0)
    with pytest.raises(InputError, match=message):
        load_encoder(spec)
