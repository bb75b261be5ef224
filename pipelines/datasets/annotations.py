"""A data set in neutral form: its clips, and the questions or captions about them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cache_schema import Caption, Clip, Question
from pipelines.datasets.source_folder import Evidence, Row

Spans = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotations:
    """A data set in neutral form."""

    clips: list[Clip]
    questions: Sequence[Question]
    captions: Sequence[Caption] = ()
    evidence: dict[str, Spans] = field(default_factory=dict)
    """Question id -> where the answer shows, in seconds; evaluation only, empty if unknown."""
    noted: Counter[str] = field(default_factory=Counter)
    """What was done to entries by rule, and how often: left out, cut to bounds."""


def gathered(rows: Iterable[Row], noted: Counter[str]) -> Annotations:
    """All rows of a data set, in memory.

    Args:
        rows: clips, questions, captions and evidence, mixed.
        noted: counted while the rows are taken.
    """
    clips, questions, captions = list[Clip](), list[Question](), list[Caption]()
    evidence = dict[str, Spans]()
    for row in rows:
        match row:
            case Clip():
                clips.append(row)
            case Question():
                questions.append(row)
            case Caption():
                captions.append(row)
            case Evidence():
                evidence[row.question_id] = list(row.spans)
    return Annotations(
        clips=clips, questions=questions, captions=captions, evidence=evidence, noted=noted
    )
