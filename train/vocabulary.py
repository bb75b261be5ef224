"""The answer classes of a run, taken from training answers alone."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cache_schema.errors import InputError

UNKNOWN = -1
"""Class of an answer that training never saw; it is never predicted, so it counts as wrong."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Answers by class: the most frequent training answer is class 0, ties in text order."""

    answers: tuple[str, ...]

    @classmethod
    def from_answers(cls, answers: Iterable[str], limit: int) -> "Vocabulary":
        """Keep the `limit` most frequent of the training answers.

        Raises:
            InputError: there are no answers.
        """
        counts = Counter(answers)
        if not counts:
            raise InputError("there are no training answers to take the answer classes from")
        ranked = sorted(counts, key=lambda answer: (-counts[answer], answer))
        return cls(tuple(ranked[:limit]))

    def __len__(self) -> int:
        return len(self.answers)

    def classes(self, answers: Sequence[str]) -> NDArray[np.int64]:
        """Class of each answer, `UNKNOWN` where training never saw it."""
        of = {answer: number for number, answer in enumerate(self.answers)}
        return np.array([of.get(answer, UNKNOWN) for answer in answers], np.int64)

    def unknown_share(self, answers: Sequence[str]) -> float:
        """Share of the answers that are no class, and so cannot be given; 0 of none."""
        return float(np.mean(self.classes(answers) == UNKNOWN)) if len(answers) else 0.0


NO_ANSWERS = Vocabulary(())
"""The classes of a run that scores pairs."""
