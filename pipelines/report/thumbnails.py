"""Small PNG pictures of video frames, ready to be inlined in a page."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 192
"""Pixels: sharp on a dense screen at the size the page shows, a few tens of kilobytes each."""


def thumbnail_png(pixels: NDArray[np.uint8], longest_side: int = LONGEST_SIDE) -> bytes:
    """Encode a frame as PNG, shrunk to fit; small frames keep their size.

    Args:
        pixels: uint8 `[H, W, 3]`, RGB.
        longest_side: Upper limit of the picture's width and height in pixels.

    Returns:
        The PNG file's bytes.

    Raises:
        ValueError: The array is not a non-empty uint8 RGB picture.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(
            f"got an array of {pixels.dtype} {list(pixels.shape)}; expected uint8 [H, W, 3], not empty"
        )
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
