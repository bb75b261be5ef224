"""A sheet of small pictures of a clip's frames, each with its number and time burned in."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_GAP: Final = 4
_HEADER: Final = 26
_BACKGROUND: Final = (24, 24, 24)
_TEXT: Final = (240, 240, 240)
_BEHIND_TEXT: Final = (0, 0, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SheetFrame:
    """One picture of a sheet."""

    index: int
    """Place among the frames of the file."""
    time: float
    """Seconds from the first frame of the file."""
    repeats: int
    """How often the frame is taken; more than once in clips of fewer frames than asked for."""

    @property
    def label(self) -> str:
        """What is burned in."""
        repeated = f"  x{self.repeats}" if self.repeats > 1 else ""
        return f"#{self.index}  {self.time:.3f} s{repeated}"


def sheet_png(
    pixels: NDArray[np.uint8], frames: Sequence[SheetFrame], title: str, columns: int | None = None
) -> bytes:
    """Draws the sheet.

    Args:
        pixels: uint8 [d, S, S, 3], pictures that were padded with black to squares.
        frames: what the d pictures are.
        title: one line above them.
        columns: pictures in a row; by default such that the sheet is about 16:10.

    Returns:
        The PNG file's bytes.
    """
    tiles = without_padding(pixels)
    count, height, width = tiles.shape[:3]
    if columns is None:
        columns = math.ceil(math.sqrt(count * 1.6 * height / width))
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    large = ImageFont.load_default(size=14)
    across = max(_GAP + columns * (width + _GAP), math.ceil(large.getlength(title)) + 2 * _GAP)
    size = (across, _HEADER + rows * (height + _GAP))
    sheet = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=max(9, width // 13))
    draw.text((_GAP, 5), title, fill=_TEXT, font=large)
    for place, (tile, frame) in enumerate(zip(tiles, frames, strict=True)):
        row, column = divmod(place, columns)
        corner = (_GAP + column * (width + _GAP), _HEADER + row * (height + _GAP))
        sheet.paste(Image.fromarray(tile), corner)
        box = draw.textbbox((corner[0] + 3, corner[1] + 2), frame.label, font=font)
        draw.rectangle((box[0] - 3, box[1] - 2, box[2] + 3, box[3] + 2), fill=_BEHIND_TEXT)
        draw.text((corner[0] + 3, corner[1] + 2), frame.label, fill=_TEXT, font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def without_padding(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crops the black bars that all pictures share: the padding of pictures that are not square.

    Bars that are part of the video go with it; a sheet that is black all over stays as it is.
    """
    used = np.any(pixels, axis=(0, 3))
    rows, columns = np.flatnonzero(np.any(used, axis=1)), np.flatnonzero(np.any(used, axis=0))
    if not rows.size:
        return pixels
    return np.ascontiguousarray(pixels[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
