"""Averaging a frame's grid of patch tokens to a coarser one, and laying it back over the finer."""

import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cache_schema.errors import InputError

Float16 = npt.NDArray[np.float16]

_POOLING: Final = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})-to-([1-9]\d{0,3})x([1-9]\d{0,3})")
_GRID: Final = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Pooling:
    """Averaging of a grid of patches, as an identity spells it: ``7x7-to-4x4``.

    Cell i of n over r rows averages the rows floor(i r / n) up to ceil((i + 1) r / n), so neighbours
    share a row where n does not divide r: adaptive average pooling, as torch calls it.

    Raises:
        InputError: the coarser grid is not coarser.
    """

    source: tuple[int, int]
    """Rows and columns of the grid that the encoder gives."""
    target: tuple[int, int]
    """Rows and columns that are kept."""

    def __post_init__(self) -> None:
        grows = any(kept > had for kept, had in zip(self.target, self.source, strict=True))
        if grows or min(self.target) < 1 or self.source == self.target:
            raise InputError(
                f"A grid of {_grid(self.source)} patches cannot be pooled to {_grid(self.target)}; "
                f"give fewer rows or columns."
            )

    @classmethod
    def of(cls, patches: int, target: tuple[int, int]) -> "Pooling":
        """Returns the pooling of square grids of P = ``patches`` tokens.

        Raises:
            InputError: P is no square number, or the target is not coarser.
        """
        side = math.isqrt(patches)
        if side * side != patches or patches == 0:
            raise InputError(
                f"{patches} patches a frame make no square grid, so there is nothing to pool."
            )
        return cls(source=(side, side), target=target)

    @classmethod
    def parse(cls, text: str) -> "Pooling":
        """Reads what ``str`` wrote.

        Raises:
            InputError: the text is something else.
        """
        if (found := _POOLING.fullmatch(text)) is None:
            raise InputError("pooling is written as 7x7-to-4x4")
        rows, columns, kept_rows, kept_columns = map(int, found.groups())
        return cls(source=(rows, columns), target=(kept_rows, kept_columns))

    def __str__(self) -> str:
        return f"{_grid(self.source)}-to-{_grid(self.target)}"

    @property
    def source_tokens(self) -> int:
        """Patches of a frame before pooling."""
        return self.source[0] * self.source[1]

    @property
    def tokens(self) -> int:
        """Patches of a frame after pooling."""
        return self.target[0] * self.target[1]

    def pool(self, patch: Float16) -> Float16:
        """Averages the patches of frames, in float32, in one order on every machine.

        Args:
            patch: float16 [..., source_tokens, D], rows of the grid one after the other.

        Returns:
            float16 [..., tokens, D].
        """
        *frames, _, dim = patch.shape
        grid = patch.reshape(*frames, *self.source, dim)
        pooled = np.empty((*frames, *self.target, dim), dtype=np.float16)
        across = _cells(self.source[1], self.target[1])
        for row, (top, bottom) in enumerate(_cells(self.source[0], self.target[0])):
            # Added one by one, because the order in which numpy sums an axis is its own affair.
            line = grid[..., top, :, :].astype(np.float32)
            for other in range(top + 1, bottom):
                line += grid[..., other, :, :]
            for column, (left, right) in enumerate(across):
                total = line[..., left, :].copy()
                for other in range(left + 1, right):
                    total += line[..., other, :]
                pooled[..., row, column, :] = total / np.float32((bottom - top) * (right - left))
        return pooled.reshape(*frames, self.tokens, dim)

    def spread(self, pooled: Float16) -> Float16:
        """Gives every patch of the finer grid the token that lies over its middle.

        Args:
            pooled: float16 [..., tokens, D].

        Returns:
            float16 [..., source_tokens, D].
        """
        rows = _nearest(self.source[0], self.target[0])
        columns = _nearest(self.source[1], self.target[1])
        places = (rows[:, None] * self.target[1] + columns).reshape(-1)
        return pooled[..., places, :]


def parse_grid(text: str) -> tuple[int, int]:
    """Reads rows and columns of a grid, such as ``4x4``.

    Raises:
        InputError: the text is something else.
    """
    if (found := _GRID.fullmatch(text)) is None:
        raise InputError(f"{text!r} is no grid of patches; write rows and columns, as in 4x4.")
    return int(found[1]), int(found[2])


def _grid(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _cells(had: int, kept: int) -> list[tuple[int, int]]:
    return [(cell * had // kept, -(-(cell + 1) * had // kept)) for cell in range(kept)]


def _nearest(had: int, kept: int) -> npt.NDArray[np.intp]:
    return ((2 * np.arange(had) + 1) * kept // (2 * had)).astype(np.intp)
