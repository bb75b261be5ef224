"""The measured loss: its figures by their definitions, and blocks that add up."""

import numpy as np
import pytest

from cache_schema.errors import SchemaError
from cache_schema.shards.measured_loss import MeasuredLoss


def pair(seed: int, clips: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    before = rng.standard_normal((clips, 3, 4, 16)).astype(np.float16)
    return before, (before + rng.standard_normal(before.shape) * 0.01).astype(np.float16)


def test_figures_are_what_they_say() -> None:
    before, after = pair(0)
    loss = MeasuredLoss.between(before, after)
    wide, back = before.astype(np.float64), after.astype(np.float64)
    cosine = (wide * back).sum(-1) / (np.linalg.norm(wide, axis=-1) * np.linalg.norm(back, axis=-1))
    assert loss.tokens == cosine.size
    assert loss.max_abs == pytest.approx(np.abs(wide - back).max())
    relative = np.sqrt(((wide - back) ** 2).sum() / (wide**2).sum())
    assert loss.relative == pytest.approx(relative, rel=1e-5)
    assert loss.mean_cosine == pytest.approx(cosine.mean(), rel=1e-6)
    assert loss.min_cosine == pytest.approx(cosine.min(), rel=1e-6)


def test_blocks_add_up_to_the_whole() -> None:
    before, after = pair(1, clips=5)
    whole = MeasuredLoss.between(before, after)
    parts = [MeasuredLoss.between(before[k : k + 2], after[k : k + 2]) for k in (0, 2, 4)]
    total = MeasuredLoss.total(parts)
    assert total is not None
    assert total.to_json() == pytest.approx(whole.to_json())
    assert MeasuredLoss.total([]) is None


def test_no_loss_is_none() -> None:
    before, _ = pair(2)
    loss = MeasuredLoss.between(before, before)
    assert (loss.max_abs, loss.relative) == (0, 0)
    assert loss.min_cosine == pytest.approx(1)


@pytest.mark.parametrize(("came_back", "cosine"), [(0, 1), (1, 0)], ids=["kept", "lost"])
def test_a_token_of_zeros_has_no_direction(came_back: float, cosine: float) -> None:
    zeros = np.zeros((1, 1, 8), dtype=np.float16)
    loss = MeasuredLoss.between(zeros, np.full_like(zeros, came_back))
    assert (loss.min_cosine, loss.mean_cosine) == (cosine, cosine)


def test_json_round_trip_is_strict() -> None:
    loss = MeasuredLoss.between(*pair(3))
    assert MeasuredLoss.from_json(loss.to_json()) == loss
    with pytest.raises(SchemaError, match="max_abs"):
        MeasuredLoss.from_json(loss.to_json() | {"max_abs": float("nan")})
    with pytest.raises(SchemaError, match="not an object"):
        MeasuredLoss.from_json([])
