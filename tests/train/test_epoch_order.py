from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.epoch_order import (
    START,
    Position,
    dealt,
    epoch_batches,
    evaluation_batches,
    training_order,
)

CLIPS = np.array([3, 0, 1, 0, 0, 2, 1, 0, 3, 0])


@given(
    clips=st.lists(st.integers(0, 6), min_size=1, max_size=40),
    clips_per_batch=st.integers(1, 5),
    questions_per_clip=st.integers(1, 5),
)
@settings(max_examples=60, deadline=None)
def test_every_question_is_in_exactly_one_batch(clips, clips_per_batch, questions_per_clip):
    batches = epoch_batches(np.array(clips), 1, 0, clips_per_batch, questions_per_clip)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(clips)))
    assert max(len(batch) for batch in batches) <= clips_per_batch * questions_per_clip


def test_a_batch_has_at_most_that_many_groups_of_at_most_that_many_questions():
    for batch in epoch_batches(CLIPS, 1, 0, clips_per_batch=2, questions_per_clip=3):
        runs = np.split(batch, np.flatnonzero(np.diff(CLIPS[batch])) + 1)
        assert len(runs) <= 2
        assert max(Counter(CLIPS[batch].tolist()).values()) <= 6


def test_questions_of_a_clip_stand_together_when_they_fit_a_group():
    batches = epoch_batches(CLIPS, 1, 0, clips_per_batch=2, questions_per_clip=5)
    seen = [clip for batch in batches for clip in set(CLIPS[batch].tolist())]
    assert sorted(seen) == [0, 1, 2, 3]


@pytest.mark.parametrize("other", [(2, 0), (1, 1)])
def test_order_depends_on_seed_and_epoch_alone(other):
    def order(seed, epoch):
        return np.concatenate(epoch_batches(CLIPS, seed, epoch, 2, 3)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(*other)


def test_any_position_continues_the_same_order():
    whole = list(islice(training_order(CLIPS, 1, 2, 2, START), 11))
    for done in range(10):
        position, _ = whole[done]
        rest = list(islice(training_order(CLIPS, 1, 2, 2, position), 10 - done))
        for (at, rows), (expected_at, expected) in zip(rest, whole[done + 1 :], strict=True):
            assert at == expected_at
            assert rows.tolist() == expected.tolist()


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_batches_are_dealt_in_turn_and_any_number_goes_on(processes):
    """Each process has every so-manieth batch; all agree on the place from which others may go on."""

    def order(start=START):
        return training_order(CLIPS, 1, 2, 2, start)

    whole = [rows.tolist() for _, rows in islice(order(), 18)]
    hands = [
        list(islice(dealt(order(), rank, processes), 6 // processes)) for rank in range(processes)
    ]
    rounds = list(zip(*hands, strict=True))
    assert [rows.tolist() for hand in rounds for _, rows in hand] == whole[:6]
    assert all(len({position for position, _ in hand}) == 1 for hand in rounds)
    goes_on = order(rounds[-1][0][0])
    assert [rows.tolist() for _, rows in islice(goes_on, 12)] == whole[6:]


def test_position_after_the_last_batch_starts_the_next_epoch():
    batches = len(epoch_batches(CLIPS, 1, 0, 2, 2))
    position, rows = next(training_order(CLIPS, 1, 2, 2, Position(0, batches)))
    assert position == Position(1, 1)
    assert rows.tolist() == epoch_batches(CLIPS, 1, 1, 2, 2)[0].tolist()


def test_evaluation_batches_keep_clips_together_and_cover_everything():
    batches = evaluation_batches(CLIPS, 4)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    rows = np.concatenate(batches)
    assert sorted(rows.tolist()) == list(range(len(CLIPS)))
    assert (np.diff(CLIPS[rows]) >= 0).all()
