"""Numbers as public scorers make them where that is not the plain share, so that they can be compared."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from cache_schema.errors import InputError
from pipelines.scores.answered import Answered
from pipelines.scores.score_rows import ScoreRow, share

BATCH: Final = 64
"""Batch of EgoTaskQA's public test loaders."""
DRAW_SEED: Final = 0
_LEAST_COUNT, _MOST_COUNT = 1, 10
"""Counts of TGIF-QA: answers outside of them are moved to the nearer end, as HCRN's evaluation does."""


def free_answers(answered: Sequence[Answered]) -> Iterator[ScoreRow]:
    """ActivityNet-QA's "Free" accuracy, right and as its script divides.

    The script divides the right answers of types 3 to 8 by the questions of all types but the three
    that happen to come first in the file of answers, which are not types 0 to 2.
    """
    free = [q for q in answered if "group:free" in q.tags]
    yield share("free", "free (types 3 to 8)", free)
    counts = Counter(tag for q in answered for tag in q.tags if tag.startswith("type:"))
    divisor = sum(list(counts.values())[3:])
    right = sum(question.right for question in free)
    yield ScoreRow(
        key="free-as-scripted",
        label="free, as the official script divides",
        value=right / divisor if divisor else None,
        questions=divisor,
    )


def public_loader(answered: Sequence[Answered]) -> Iterator[ScoreRow]:
    """EgoTaskQA as its public evaluation counts: shuffled, the last incomplete batch dropped.

    Which questions are dropped is drawn anew each time, without a seed: one draw is shown, and the
    lowest and highest accuracy that any draw can have. With batches of one size, the mean over batches
    is the share of the questions kept.
    """
    kept = len(answered) // BATCH * BATCH
    order = np.random.default_rng(DRAW_SEED).permutation(len(answered))[:kept]
    drawn = [answered[place] for place in order.tolist()]
    yield share("drop-last", f"one draw (seed {DRAW_SEED})", drawn)
    right, dropped = sum(question.right for question in answered), len(answered) - kept
    bounds = (("lowest", max(0, right - dropped)), ("highest", min(right, kept)))
    for name, count in bounds:
        yield ScoreRow(
            key=f"drop-last-{name}",
            label=f"{name} of all draws",
            value=count / kept if kept else None,
            questions=kept,
        )
    for kind in ("scope", "type", "semantic"):
        tags = dict.fromkeys(t for q in answered for t in q.tags if t.startswith(f"{kind}:"))
        for tag in tags:
            yield share(
                f"drop-last {tag}", f"{tag}, that draw", [q for q in drawn if tag in q.tags]
            )


def type_mean(answered: Sequence[Answered]) -> Iterator[ScoreRow]:
    """STAR's score: the mean of its four types' accuracies, whatever their sizes."""
    kinds = dict.fromkeys(tag for q in answered for tag in q.tags if tag.startswith("type:"))
    means = [np.mean([q.right for q in answered if kind in q.tags]) for kind in kinds]
    yield ScoreRow(
        key="mean",
        label="mean of the types",
        value=float(np.mean(means)),
        questions=len(answered),
    )


def squared_error(answered: Sequence[Answered]) -> Iterator[ScoreRow]:
    """TGIF-QA's repetition count: the mean squared error of whole numbers from 1 to 10.

    Raises:
        InputError: an answer is missing or is no number.
    """
    errors = list[float]()
    for question in answered:
        try:
            number = float(question.given) if question.given is not None else np.nan
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise InputError(
                f"The prediction of {question.question_id!r} is {question.given!r}; a squared error wants "
                "a number for every question."
            )
        counted = min(max(int(np.floor(number + 0.5)), _LEAST_COUNT), _MOST_COUNT)
        errors.append((counted - int(question.answer)) ** 2)
    yield ScoreRow(
        key="squared-error",
        label="mean squared error",
        value=float(np.mean(errors)),
        questions=len(errors),
        unit="squared error",
    )
