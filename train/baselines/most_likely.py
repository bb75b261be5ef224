"""The most likely answer: the most frequent one of training, of each type or of all questions."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

from cache_schema.errors import InputError
from cache_schema.tables.question_table import Question
from train.predictions import Prediction

_TYPE_TAG = "type:"


def majority_predictions(
    training: Sequence[Question],
    questions: Sequence[Question],
    *,
    over: Literal["type", "all"] = "type",
) -> list[Prediction]:
    """Answer with the most frequent training answer of the question's `type:` tag, or of all.

    Table 1's "Most Likely" column mixes both: its rows are per type, its last line is over all.
    Ties go to the first in text order; a type that training never saw gets the most frequent
    answer of all.

    Raises:
        InputError: there are no training questions.
    """
    if not training:
        raise InputError("there are no training questions to count answers of")
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    overall: Counter[str] = Counter()
    for question in training:
        counts[_type_of(question)][question.answer] += 1
        overall[question.answer] += 1
    return [
        Prediction(
            question_id=question.question_id,
            predicted=_most_frequent(
                overall if over == "all" else counts.get(_type_of(question), overall)
            ),
            answer=question.answer,
        )
        for question in questions
    ]


def _type_of(question: Question) -> str:
    return next((tag for tag in question.tags if tag.startswith(_TYPE_TAG)), "")


def _most_frequent(counts: Counter[str]) -> str:
    return min(counts, key=lambda answer: (-counts[answer], answer))
