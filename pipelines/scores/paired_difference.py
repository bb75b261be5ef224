"""How sure it is that one run answers better than another, from the questions that both answered."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Right = NDArray[np.bool_]

RESAMPLES: Final = 10_000
_SEED: Final = 0
_TAILS: Final = (2.5, 97.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedDifference:
    """A difference of accuracies and its 95 % interval, as shares."""

    value: float
    """The other run's accuracy minus the first one's."""
    low: float
    high: float
    questions: int
    """The questions that both answered."""


def paired_difference(first: Right, other: Right) -> PairedDifference | None:
    """The difference of two runs on the same questions, with a percentile bootstrap interval.

    A question is drawn with both its answers. Its difference is -1, 0 or 1, so that resampling n
    questions with replacement is one draw of three counts: exact, and as fast for a million questions
    as for ten.

    Args:
        first: [Q], whether the first run is right.
        other: [Q], whether the other one is.

    Returns:
        None where there are no questions.
    """
    questions = len(first)
    if not questions:
        return None
    lost, won = int((first & ~other).sum()), int((other & ~first).sum())
    shares = np.array([lost, questions - lost - won, won]) / questions
    drawn = np.random.default_rng(_SEED).multinomial(questions, shares, size=RESAMPLES)
    low, high = np.percentile((drawn[:, 2] - drawn[:, 0]) / questions, _TAILS)
    return PairedDifference(
        value=(won - lost) / questions,
        low=float(low),
        high=float(high),
        questions=questions,
    )
