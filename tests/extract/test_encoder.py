import json
import pickle

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cache_schema import InputError
from extract.device_choice import chosen_device
from extract.encoder import EncoderSpec, NonFiniteFrames, load_encoder
from extract.encoder_spec import identity_of


@pytest.fixture(scope="module")
def encoder(tiny_spec):
    return load_encoder(tiny_spec)


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(5).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)


def with_spec(spec, **changes):
    values = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
    return EncoderSpec(**{**values, **changes})


def in_trunk(spec):
    return with_spec(spec, token_space="trunk")  # noqa: S106 -- no password


def open_clip_model(spec):
    """The reference: open_clip alone, from the same files."""
    open_clip.add_model_config(spec.model_config)
    return open_clip.create_model_and_transforms(spec.model, pretrained=str(spec.weights))


def test_cls_is_the_image_feature_of_open_clip(tiny_spec, encoder, pixels):
    model, _, transform = open_clip_model(tiny_spec)
    model.eval()
    with torch.inference_mode():
        expected = model.encode_image(torch.stack([transform(Image.fromarray(p)) for p in pixels]))
    cls, patch = encoder.encode_frames(pixels)
    assert cls.shape == (9, 24)
    assert patch.shape == (9, 4, 24)
    assert cls.dtype == patch.dtype == np.float16
    np.testing.assert_allclose(cls, expected.numpy(), atol=2e-3)


def test_trunk_tokens_project_to_joint_ones(tiny_spec, encoder, pixels):
    trunk = load_encoder(in_trunk(tiny_spec))
    cls, patch = trunk.encode_frames(pixels)
    assert cls.shape == (9, 48)
    assert patch.shape == (9, 4, 48)
    projection = load_file(tiny_spec.weights)["visual.proj"].numpy()
    joint_cls, joint_patch = encoder.encode_frames(pixels)
    np.testing.assert_allclose(cls.astype(np.float32) @ projection, joint_cls, atol=5e-3)
    np.testing.assert_allclose(patch.astype(np.float32) @ projection, joint_patch, atol=5e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_picture_does_not_depend_on_its_company(tiny_spec, pixels, precision):
    """What makes the features of an interrupted job the same bits as those of a calm one."""
    encoder = load_encoder(with_spec(tiny_spec, precision=precision))
    rng = np.random.default_rng(1)
    cls, patch = encoder.encode_frames(pixels)
    for _ in range(10):
        others = rng.integers(0, 256, pixels.shape, dtype=np.uint8)
        kept, places = rng.permutation(9)[:4], rng.permutation(9)[:4]
        others[places] = pixels[kept]
        other_cls, other_patch = encoder.encode_frames(others)
        assert np.array_equal(other_cls[places], cls[kept])
        assert np.array_equal(other_patch[places], patch[kept])


@pytest.mark.parametrize(("precision", "cosine"), [("bf16", 0.999), ("fp16", 0.99999)])
def test_low_precision_is_close(tiny_spec, encoder, pixels, precision, cosine):
    reference = encoder.encode_frames(pixels)[1].astype(np.float64)
    other = load_encoder(with_spec(tiny_spec, precision=precision)).encode_frames(pixels)[1]
    products = (reference * other).sum(-1)
    norms = np.linalg.norm(reference, axis=-1) * np.linalg.norm(other.astype(float), axis=-1)
    assert (products / norms).min() > cosine


def test_identity_needs_no_loading_and_agrees(tiny_spec, encoder):
    identity = identity_of(tiny_spec, 12)
    assert identity == encoder.identity(12)
    assert (identity.dim, identity.patches, identity.quick_gelu) == (24, 4, True)
    assert identity_of(in_trunk(tiny_spec), 12).dim == 48
    digests = {identity.digest, identity_of(with_spec(tiny_spec, precision="bf16"), 12).digest}
    assert len(digests) == 2


def test_random_weights_are_named_by_their_content(tiny_spec):
    def digest(seed):
        spec = with_spec(tiny_spec, weights=None, random_init_seed=seed)
        return load_encoder(spec).identity(4).weights_sha256

    assert digest(1) == digest(1) != digest(2)


def test_own_preprocessing_is_used(tiny_spec, tmp_path):
    config = json.loads(tiny_spec.model_config.read_text())
    own = {
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 1, 2],
        "resize_mode": "squash",
        "interpolation": "bilinear",
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"model_cfg": config, "preprocess_cfg": own}))
    preprocess = identity_of(with_spec(tiny_spec, model_config=path), 4).preprocess
    assert (preprocess.mean, preprocess.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 2.0))
    assert (preprocess.resize_mode, preprocess.interpolation) == ("squash", "bilinear")
    assert load_encoder(with_spec(tiny_spec, model_config=path)).preprocess == preprocess


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("convnext_base", "timm tower"),
        ("RN50", "convolutional"),
        ("coca_ViT-B-32", "attentional pooling"),
        ("ViT-B-99", "no model"),
        ("../../etc/passwd", "not a model name"),
    ],
)
def test_refuses_models_without_clip_tokens(model, message):
    with pytest.raises(InputError, match=message):
        load_encoder(EncoderSpec(model=model, random_init_seed=0))


def test_weights_must_fit(tiny_spec, tmp_path):
    state = load_file(tiny_spec.weights)
    state.pop("visual.proj")
    save_file(state, tmp_path / "cut.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    for name, message in (
        ("cut.safetensors", "do not load"),
        ("text.safetensors", "do not load"),
        ("none.safetensors", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            load_encoder(with_spec(tiny_spec, weights=tmp_path / name))


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize(
    "save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))]
)
def test_weights_cannot_run_code(tiny_spec, tmp_path, save):
    trap = tmp_path / "harm.pt"
    save({"state_dict": Harmful(str(tmp_path / "PWNED"))}, trap)
    with pytest.raises(InputError, match="do not load"):
        load_encoder(with_spec(tiny_spec, weights=trap))
    assert not (tmp_path / "PWNED").exists()


def test_a_plain_state_dict_loads_too(tiny_spec, encoder, pixels, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": load_file(tiny_spec.weights)}, path)
    other = load_encoder(with_spec(tiny_spec, weights=path))
    assert np.array_equal(other.encode_frames(pixels)[0], encoder.encode_frames(pixels)[0])


@pytest.mark.parametrize("space", ["joint", "trunk"])
def test_overflow_is_an_error_that_names_rows(tiny_spec, pixels, tmp_path, space):
    state = load_file(tiny_spec.weights)
    state["visual.proj"] = state["visual.proj"] * 1e6
    state["visual.ln_post.weight"][:] = 6e4
    save_file(state, tmp_path / "large.safetensors")
    spec = with_spec(tiny_spec, weights=tmp_path / "large.safetensors", token_space=space)
    encoder = load_encoder(spec)
    with pytest.raises(NonFiniteFrames) as caught:
        encoder.encode_frames(pixels)
    assert caught.value.rows == list(range(9))
    assert not encoder.encode(pixels).finite.any()


def test_broken_weights_fail_the_self_test(tiny_spec, tmp_path):
    state = load_file(tiny_spec.weights)
    state["visual.ln_post.bias"][0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(InputError, match="weights are broken"):
        load_encoder(with_spec(tiny_spec, weights=tmp_path / "nan.safetensors"))


def test_a_device_that_is_not_there_is_an_error(tiny_spec, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="sees 0 CUDA devices"):
        load_encoder(with_spec(tiny_spec, device="cuda"))


@pytest.mark.parametrize(("gpu", "expected"), [(True, "cuda"), (False, "cpu")])
def test_the_best_device_is_chosen(monkeypatch, gpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert chosen_device("auto") == expected
    assert chosen_device("cuda:3") == "cuda:3"  # a scheduler's machine may have it
    with pytest.raises(InputError, match="--device is 'gpu'"):
        chosen_device("gpu")


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 32, 32, 3), np.float32),
        np.zeros((2, 3, 32, 32), np.uint8),
        np.zeros((2, 64, 64, 3), np.uint8),
    ],
    ids=["float", "channels first", "other size"],
)
def test_refuses_pictures_of_another_kind(encoder, wrong):
    with pytest.raises(InputError, match="takes uint8"):
        encoder.encode_frames(wrong)


def test_texts(tiny_spec, encoder):
    model, _, _ = open_clip_model(tiny_spec)
    model.eval()
    texts = ["a red circle", "what is left of the blue square?", "word " * 30]
    vectors, truncated = encoder.encode_text(texts)
    tokens = open_clip.get_tokenizer(tiny_spec.model)(texts)
    with torch.inference_mode():
        expected = model.encode_text(tokens).numpy()
    assert vectors.shape == (3, 24)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert truncated == 1
    assert encoder.encode_text([])[0].shape == (0, 24)


def test_a_text_that_just_fits_is_not_truncated(encoder):
    assert encoder.encode_text(["cat " * 10])[1] == 0
    assert encoder.encode_text(["cat " * 11])[1] == 1
