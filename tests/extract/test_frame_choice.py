from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_schema import InputError
from extract.frame_choice import TIE_SECONDS, choose_frames


def slow_choice(timestamps, start, end, frames):
    """The rule word by word, in exact arithmetic."""
    indices = []
    for i in range(frames):
        midpoint = Fraction(start) + (Fraction(2 * i + 1, 2 * frames)) * (
            Fraction(end) - Fraction(start)
        )
        shown = [
            j for j, t in enumerate(timestamps) if Fraction(t) <= midpoint + Fraction(TIE_SECONDS)
        ]
        indices.append(shown[-1] if shown else 0)
    return indices


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 100])
def test_agrees_with_the_rule_for_lengths_around_n(length):
    timestamps = np.arange(length) / 25
    choice = choose_frames(timestamps, 0.0, length / 25, 8)
    assert choice.index.tolist() == slow_choice(timestamps, 0.0, length / 25, 8)
    assert len(choice.distinct) == min(length, 8)
    assert np.array_equal(choice.distinct[choice.slot], choice.index)
    assert np.array_equal(choice.time, timestamps[choice.index])


def test_no_clip_is_empty():
    with pytest.raises(InputError, match="no frames"):
        choose_frames(np.zeros(0), 0.0, 1.0, 4)


@pytest.mark.parametrize(
    ("start", "end", "frames", "message"),
    [(0.0, 1.0, 0, "at least 1"), (1.0, 0.5, 4, "before its begin")],
    ids=["no frames asked for", "bounds out of order"],
)
def test_refuses_nonsense(start, end, frames, message):
    with pytest.raises(InputError, match=message):
        choose_frames(np.arange(4.0), start, end, frames)


@pytest.mark.parametrize("rate", [23.976, 24, 25, 29.97, 30, 50, 60])
def test_rounding_does_not_decide_on_frame_borders(rate):
    """With 2N frames every midpoint is a frame's very time; all must fall on the same side."""
    timestamps = np.arange(200) / rate
    choice = choose_frames(timestamps, 0.0, 200 / rate, 100)
    assert choice.index.tolist() == list(range(1, 200, 2))


def test_takes_the_frame_on_screen_not_the_nearest():
    choice = choose_frames(np.array([0.0, 1.0, 9.0]), 0.0, 10.0, 2)
    assert choice.index.tolist() == [1, 1]  # at 2.5 s and 7.5 s the second frame is shown


def test_bounds_move_the_midpoints():
    timestamps = np.arange(100) / 10
    choice = choose_frames(timestamps, 2.0, 4.0, 4)
    assert choice.index.tolist() == [22, 27, 32, 37]


@given(
    gaps=st.lists(st.floats(1e-3, 10), min_size=0, max_size=60),
    start=st.floats(0, 50),
    length=st.floats(0, 100),
    frames=st.integers(1, 40),
)
def test_indices_never_go_back_and_stay_inside(gaps, start, length, frames):
    timestamps = np.concatenate([[0.0], np.cumsum(gaps)])
    choice = choose_frames(timestamps, start, start + length, frames)
    assert choice.index.shape == choice.time.shape == (frames,)
    assert np.all(np.diff(choice.index) >= 0)
    assert 0 <= choice.index[0] <= choice.index[-1] < len(timestamps)
    assert np.array_equal(np.unique(choice.index), choice.distinct)
    assert np.all(choice.time <= np.maximum(start + length + TIE_SECONDS, 0))
