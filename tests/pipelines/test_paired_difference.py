"""The paired bootstrap against one that resamples question by question, and against the normal interval."""

import numpy as np
import pytest

from pipelines.scores.paired_difference import paired_difference


def _answers(both: int, first: int, other: int, neither: int):
    counts = (both, first, other, neither)
    return (
        np.repeat([True, True, False, False], counts),
        np.repeat([True, False, True, False], counts),
    )


def test_the_interval_is_that_of_resampled_questions():
    first, other = _answers(40, 10, 30, 20)
    found = paired_difference(first, other)
    rng = np.random.default_rng(7)
    differences = []
    for _ in range(10_000):
        drawn = rng.integers(0, 100, 100)
        differences.append(other[drawn].mean() - first[drawn].mean())
    low, high = np.percentile(differences, (2.5, 97.5))
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.011)
    assert found.questions == 100


def test_pairing_is_worth_it_where_runs_agree():
    """Two runs of 50 %: agreeing on all but 20 questions leaves a far smaller interval than not."""
    alike = paired_difference(*_answers(490, 10, 10, 490))
    apart = paired_difference(*_answers(250, 250, 250, 250))
    assert alike.high - alike.low < 0.25 * (apart.high - apart.low)
    normal = 1.96 * np.sqrt(0.5 / 1000)
    assert (apart.low, apart.high) == pytest.approx((-normal, normal), rel=0.06)


def test_a_run_beside_itself_differs_by_nothing():
    found = paired_difference(*_answers(3, 0, 0, 2))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_no_questions_have_no_difference():
    assert paired_difference(np.zeros(0, bool), np.zeros(0, bool)) is None
