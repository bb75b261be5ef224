"""A picture to the encoder's input size, as open_clip's evaluation transform does it with PIL."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the field uses

from cache_schema import Preprocess


def to_encoder_input(rgb: npt.NDArray[np.uint8], preprocess: Preprocess) -> npt.NDArray[np.uint8]:
    """Resizes and crops or pads one picture; normalisation is left to the encoder.

    Follows ``open_clip.transform.image_transform`` (3.3, not training): ``shortest`` resizes the
    short side to S, the long side to ``int(S x long / short)``, and crops the centre; ``squash``
    resizes both sides to S; ``longest`` resizes the long side to S and pads with black.

    Works on 8-bit integers: torch's antialiased kernel for them differs from PIL's by at most 2
    levels (76 dB), its float kernel by 5 (56 dB) at six times the cost (docs/adr/0003).

    Args:
        rgb: uint8 [H, W, 3], writable.
        preprocess: size and rule.

    Returns:
        uint8 [S, S, 3].
    """
    size = preprocess.image_size
    height, width = rgb.shape[:2]
    resized = _resize(rgb, _resized_shape(height, width, preprocess), preprocess.interpolation)
    return _centre(resized, size)


def _resized_shape(height: int, width: int, preprocess: Preprocess) -> tuple[int, int]:
    size = preprocess.image_size
    if preprocess.resize_mode == "squash":
        return size, size
    if preprocess.resize_mode == "shortest":
        if height <= width:
            return size, int(size * width / height)
        return int(size * height / width), size
    ratio = max(height / size, width / size)
    return max(round(height / ratio), 1), max(round(width / ratio), 1)


def _resize(
    rgb: npt.NDArray[np.uint8], shape: tuple[int, int], interpolation: str
) -> npt.NDArray[np.uint8]:
    if rgb.shape[:2] == shape:
        return rgb
    picture = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    resized = F.interpolate(picture, size=shape, mode=interpolation, antialias=True)
    return np.asarray(resized[0].permute(1, 2, 0).numpy(), dtype=np.uint8)


def _centre(rgb: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    height, width = rgb.shape[:2]
    if height < size or width < size:
        top, left = max(size - height, 0) // 2, max(size - width, 0) // 2
        padded = np.zeros((max(height, size), max(width, size), 3), dtype=np.uint8)
        padded[top : top + height, left : left + width] = rgb
        rgb, (height, width) = padded, padded.shape[:2]
    # Python rounds halves to even here, as torchvision's centre crop does.
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return np.ascontiguousarray(rgb[top : top + size, left : left + size])
