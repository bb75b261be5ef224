"""Which questions go into which batch: decided from numbers alone, before anything is read."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Row numbers of questions."""


class Position(NamedTuple):
    """A place in the endless order of training batches, or of the parts of them."""

    epoch: int
    batch: int


START = Position(0, 0)
"""The first batch of the first epoch."""


def epoch_batches(
    clip_of_question: Rows, seed: int, epoch: int, clips_per_batch: int, questions_per_clip: int
) -> list[Rows]:
    """Split an epoch into batches grouped by clip; every question is in exactly one.

    A clip's questions are shuffled and cut into groups of `questions_per_clip`; groups of all clips
    are shuffled, and `clips_per_batch` of them make a batch. The same (seed, epoch) gives the same
    batches on every machine.
    """
    generator = np.random.default_rng([seed, epoch])
    shuffled = generator.permutation(len(clip_of_question))
    by_clip = shuffled[np.argsort(clip_of_question[shuffled], kind="stable")]
    edges = np.flatnonzero(np.diff(clip_of_question[by_clip])) + 1
    groups = [
        of_clip[start : start + questions_per_clip]
        for of_clip in np.split(by_clip, edges)
        for start in range(0, len(of_clip), questions_per_clip)
    ]
    order = generator.permutation(len(groups))
    return [
        np.concatenate([groups[group] for group in order[start : start + clips_per_batch]])
        for start in range(0, len(order), clips_per_batch)
    ]


def training_order(
    clip_of_question: Rows,
    seed: int,
    clips_per_batch: int,
    questions_per_clip: int,
    start: Position,
) -> Iterator[tuple[Position, Rows]]:
    """Yield batches from `start` for ever, each with the position that follows it."""
    epoch, first = start
    while True:
        batches = epoch_batches(clip_of_question, seed, epoch, clips_per_batch, questions_per_clip)
        for number in range(first, len(batches)):
            yield Position(epoch, number + 1), batches[number]
        epoch, first = epoch + 1, 0


def dealt(
    order: Iterator[tuple[Position, Rows]], rank: int, processes: int
) -> Iterator[tuple[Position, Rows]]:
    """Yield every `processes`-th batch, from number `rank` on, with the position after the round.

    So each batch belongs to one process, and the position, which is the same in all of them, tells
    where any number of processes goes on.
    """
    while True:
        hand = list(islice(order, processes))
        yield hand[-1][0], hand[rank][1]


def evaluation_batches(clip_of_question: Rows, questions: int) -> list[Rows]:
    """Split all questions into batches of at most `questions`, those of one clip side by side."""
    by_clip = np.argsort(clip_of_question, kind="stable")
    return [by_clip[start : start + questions] for start in range(0, len(by_clip), questions)]
