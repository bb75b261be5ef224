import numpy as np
import pytest
from open_clip.transform import image_transform
from PIL import Image

from cache_schema import Preprocess
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
