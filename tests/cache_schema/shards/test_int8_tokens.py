"""int8 tokens: the error bound against a slow reference, and halves rounded exactly as numpy does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cache_schema.shards.int8_tokens import MISSING, dequantise, quantise

halves = st.floats(width=16, allow_nan=False, allow_infinity=False)


def slowly_quantised(token: list[float]) -> tuple[list[int], float]:
    """One token in Python's own arithmetic, rounded to float32 where the definition says so."""
    scale = np.float32(np.float32(max(abs(value) for value in token)) / np.float32(127))
    if scale == 0:
        return [0] * len(token), 0.0
    ratios = [np.float32(np.float32(value) / scale) for value in token]
    return [max(-127, min(127, round(float(ratio)))) for ratio in ratios], float(scale)


def restored(quantised: np.ndarray, scale: np.ndarray) -> np.ndarray:
    out = np.empty(quantised.shape, dtype=np.float16)
    dequantise(quantised, scale, out)
    return out


def outlier_tokens(seed: int, frames: int = 4, patches: int = 49, dim: int = 512) -> np.ndarray:
    """What a CLIP's tokens look like: a few channels are far larger than all others."""
    rng = np.random.default_rng(seed)
    tokens = rng.standard_normal((frames, patches, dim)) * 0.4
    tokens[..., [7, 133]] += rng.choice([-1, 1], 2) * 8
    return tokens.astype(np.float16)


@given(arrays.arrays(np.float16, (2, 3, 9), elements=halves))
def test_quantising_is_the_slow_reference(tokens: np.ndarray) -> None:
    quantised, scale = quantise(tokens)
    assert (quantised.dtype, scale.dtype) == (np.int8, np.float32)
    for frame in range(2):
        for patch in range(3):
            values, expected = slowly_quantised(tokens[frame, patch].tolist())
            assert quantised[frame, patch].tolist() == values
            assert scale[frame, patch] == expected
    assert (quantised != MISSING).all()


@given(arrays.arrays(np.float16, (2, 3, 9), elements=halves))
def test_the_error_is_at_most_half_a_step_and_a_rounding(tokens: np.ndarray) -> None:
    quantised, scale = quantise(tokens)
    back = restored(quantised, scale).astype(np.float64)
    bound = 0.5 * scale.astype(np.float64)[..., None] * (1 + 1e-5) + np.spacing(np.abs(tokens))
    assert np.isfinite(back).all()
    assert (np.abs(back - tokens.astype(np.float64)) <= bound).all()


@given(
    arrays.arrays(np.int8, (3, 2, 33), elements=st.integers(-127, 127)),
    arrays.arrays(
        np.float32,
        (3, 2),
        elements=st.floats(0, 515, width=32)
        | st.sampled_from([0.0, 2.0**-14, 2.0**-24, 2.0**-15 * 1.5]),
    ),
)
def test_halves_are_rounded_as_numpy_rounds_them(quantised: np.ndarray, scale: np.ndarray) -> None:
    expected = (quantised.astype(np.float32) * scale[..., None]).astype(np.float16)
    assert (restored(quantised, scale) == expected).all()


def test_every_value_at_many_scales_is_rounded_exactly() -> None:
    scale = np.random.default_rng(0).uniform(2.0**-14, 515, (40, 50)).astype(np.float32)
    # Ties: products whose dropped bits are exactly one half.
    scale[0] = np.float32(2.0**-4) * (1 + np.arange(50, dtype=np.float32) * np.float32(2.0**-12))
    quantised = np.broadcast_to(np.arange(-127, 128, dtype=np.int8), (40, 50, 255))
    expected = (quantised.astype(np.float32) * scale[..., None]).astype(np.float16)
    np.testing.assert_array_equal(restored(quantised, scale), expected)


def test_tokens_with_outliers_keep_their_direction() -> None:
    tokens = outlier_tokens(3)
    back = restored(*quantise(tokens)).astype(np.float64)
    wide = tokens.astype(np.float64)
    norms = np.linalg.norm(wide, axis=-1) * np.linalg.norm(back, axis=-1)
    assert ((wide * back).sum(-1) / norms).min() >= 0.999


@pytest.mark.parametrize("value", [0.0, -0.0], ids=["zero", "minus-zero"])
def test_a_token_of_zeros_comes_back(value: float) -> None:
    quantised, scale = quantise(np.full((1, 1, 4), value, dtype=np.float16))
    assert scale[0, 0] == 0
    assert (restored(quantised, scale) == 0).all()


def test_the_largest_halves_come_back() -> None:
    tokens = np.array([[[65504, -65504, 0, 1]]], dtype=np.float16)
    assert restored(*quantise(tokens))[0, 0, :3].tolist() == [65504, -65504, 0]
