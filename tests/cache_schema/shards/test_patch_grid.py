"""Pooling of patch grids: adaptive averages, the same as torch's, and the way back."""

import math

import numpy as np
import pytest
import torch

from cache_schema.errors import InputError
from cache_schema.shards.patch_grid import Pooling, parse_grid


def slowly_pooled(patch: np.ndarray, source: tuple[int, int], target: tuple[int, int]):
    """Every cell's mean by the definition, in float64."""
    grid = patch.astype(np.float64).reshape(-1, *source, patch.shape[-1])
    pooled = np.zeros((len(grid), *target, patch.shape[-1]))
    for i in range(target[0]):
        rows = range(i * source[0] // target[0], math.ceil((i + 1) * source[0] / target[0]))
        for j in range(target[1]):
            columns = range(j * source[1] // target[1], math.ceil((j + 1) * source[1] / target[1]))
            cell = [grid[:, row, column] for row in rows for column in columns]
            pooled[:, i, j] = sum(cell) / len(cell)
    return pooled.reshape(*patch.shape[:-2], target[0] * target[1], patch.shape[-1])


GRIDS = [
    pytest.param((7, 7), (4, 4), id="7-to-4"),
    pytest.param((14, 14), (7, 7), id="halved"),
    pytest.param((7, 7), (1, 1), id="mean"),
    pytest.param((16, 16), (4, 4), id="16-to-4"),
    pytest.param((7, 7), (7, 2), id="columns-only"),
]


@pytest.mark.parametrize(("source", "target"), GRIDS)
def test_pooling_is_the_mean_of_each_cell(source: tuple[int, int], target: tuple[int, int]) -> None:
    pooling = Pooling(source=source, target=target)
    shape = (2, 3, pooling.source_tokens, 5)
    patch = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    found = pooling.pool(patch)
    assert (found.dtype, found.shape) == (np.float16, (2, 3, pooling.tokens, 5))
    np.testing.assert_allclose(found, slowly_pooled(patch, source, target), rtol=1e-3, atol=1e-6)
    grid = torch.from_numpy(patch.astype(np.float32)).reshape(-1, *source, 5).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.adaptive_avg_pool2d(grid, target).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found.reshape(theirs.shape), theirs.numpy(), rtol=1e-3, atol=1e-6)


def test_pooling_does_not_overflow_what_its_mean_holds() -> None:
    patch = np.full((1, 49, 2), 65504, dtype=np.float16)
    pooled = Pooling(source=(7, 7), target=(4, 4)).pool(patch)
    assert (pooled == 65504).all()


def test_clips_together_are_clips_alone() -> None:
    pooling = Pooling(source=(7, 7), target=(4, 4))
    patch = np.random.default_rng(1).standard_normal((4, 6, 49, 8)).astype(np.float16)
    together = pooling.pool(patch)
    for clip in range(4):
        assert together[clip].tobytes() == pooling.pool(patch[clip]).tobytes()


@pytest.mark.parametrize(("source", "target"), GRIDS)
def test_spreading_takes_the_token_over_the_middle(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    pooling = Pooling(source=source, target=target)
    numbered = np.arange(pooling.tokens, dtype=np.float16).reshape(-1, 1)
    spread = pooling.spread(numbered)[:, 0].reshape(source)
    for row in range(source[0]):
        for column in range(source[1]):
            i = int((row + 0.5) / source[0] * target[0])
            j = int((column + 0.5) / source[1] * target[1])
            assert spread[row, column] == i * target[1] + j


def test_text_round_trip() -> None:
    pooling = Pooling.of(49, (4, 3))
    assert str(pooling) == "7x7-to-4x3"
    assert Pooling.parse("7x7-to-4x3") == pooling
    assert parse_grid("4x3") == (4, 3)


@pytest.mark.parametrize("text", ["4", "4x", "x4", "0x4", "4x4x4", "-1x2", "4 x 4", ""], ids=repr)
def test_other_text_is_no_grid(text: str) -> None:
    with pytest.raises(InputError, match="4x4"):
        parse_grid(text)


@pytest.mark.parametrize(
    ("patches", "target"),
    [(49, (8, 4)), (49, (7, 7)), (50, (4, 4)), (0, (1, 1)), (49, (0, 4))],
    ids=["finer", "same", "no-square", "none", "nothing-left"],
)
def test_what_cannot_be_pooled_is_refused(patches: int, target: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        Pooling.of(patches, target)
