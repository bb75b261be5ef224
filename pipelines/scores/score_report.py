"""A data set's score of a file of predictions, as numbers and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from cache_schema.errors import InputError
from cache_schema.tables.question_table import Split
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.dataset import Dataset
from pipelines.scores.answered import AnsweredSplit, answer_split, reported_split
from pipelines.scores.official import OfficialScore, score_of
from pipelines.scores.prediction_files import read_given
from pipelines.scores.retrieval import retrieval_rows
from pipelines.scores.score_rows import ALL, ScoreRow, section_rows, share

_RETRIEVAL_METRIC: Final = "text to video: R@1, R@5, R@10, median and mean rank"
_LABEL_WIDTH: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreReport:
    """All numbers of one score."""

    dataset: str
    split: Split
    metric: str
    sections: Mapping[str, Sequence[ScoreRow]]
    """Title -> rows; the first holds the numbers over all questions."""
    questions: int
    missing: int = 0
    """Questions without a prediction, counted as wrong."""
    strange: int = 0
    """Predictions that name none of the choices, counted as wrong."""
    notes: Sequence[str] = ()
    """Numbers that could not be had, and why."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a share is from 0 to 1."""
        return asdict(self)

    def value(self, key: str) -> float | None:
        """The number of that key; None where there is none."""
        rows = (row for rows in self.sections.values() for row in rows)
        return next((row.value for row in rows if row.key == key), None)


def score(
    dataset: Dataset,
    annotations: Annotations,
    predictions: Path,
    *,
    root: Path | None = None,
    split: Split | None = None,
    allow_missing: bool = False,
    compat: bool = False,
) -> ScoreReport:
    """Score a file of predictions as the data set's owners do.

    Args:
        dataset: the data set.
        annotations: its questions or captions.
        predictions: as `read_given` takes them; for retrieval, as `retrieval_rows` does.
        root: the data set's folder, for scores that need more of it than the questions.
        split: by default the one that results are reported on.
        allow_missing: count questions without a prediction as wrong.
        compat: add the numbers as the public scorer makes them.

    Raises:
        InputError: there is nothing to score, or the predictions do not fit the questions.
    """
    if dataset.task == "retrieval":
        if allow_missing or compat:
            raise InputError("Retrieval is scored from a whole matrix, in one way.")
        captions = [c for c in annotations.captions if c.split == (split or "test")]
        rows = retrieval_rows(captions, predictions)
        return ScoreReport(
            dataset=dataset.name,
            split=split or "test",
            metric=_RETRIEVAL_METRIC,
            sections={"": rows},
            questions=len(captions),
        )
    if not annotations.questions:
        raise InputError(f"{dataset.name!r} has captions to pretrain on and nothing to score.")
    official = score_of(dataset)
    if compat and official.compat is None:
        raise InputError(
            f"{dataset.name!r} has one way of counting; --compat is for those whose public scorer differs."
        )
    found = answer_split(
        annotations.questions,
        split or reported_split(annotations.questions),
        read_given(predictions),
        allow_missing=allow_missing,
    )
    sections, notes = _sections(official, found, compat=compat), list[str]()
    if official.by_files is not None and root is not None:
        try:
            sections[""] += official.by_files(found.questions, root)
        except InputError as error:
            notes.append(str(error))
    return ScoreReport(
        dataset=dataset.name,
        split=found.split,
        metric=official.metric,
        sections=sections,
        questions=len(found.questions),
        missing=found.missing,
        strange=found.strange,
        notes=notes,
    )


def _sections(
    official: OfficialScore, found: AnsweredSplit, *, compat: bool
) -> dict[str, list[ScoreRow]]:
    questions = found.questions
    sections = {"": [share(ALL, "all", questions)]}
    if official.special is not None:
        sections[""] += official.special(questions)
    for section in official.sections:
        if rows := [row for row in section_rows(section, questions) if row.questions]:
            sections[section.title] = rows
    if official.compat is not None and compat:
        sections["as the public scorer counts"] = list(official.compat(questions))
    return sections


def describe_score(report: ScoreReport) -> str:
    """The numbers as lines for people."""
    lines = [
        f"{report.dataset}, split {report.split}: {report.questions:,} questions",
        f"  {report.metric}",
    ]
    for title, rows in report.sections.items():
        if title:
            lines.append(title)
        lines += [f"  {row.label:{_LABEL_WIDTH}} {_shown(row)} {row.questions:>9,}" for row in rows]
    if report.missing:
        lines.append(f"{report.missing:,} questions had no prediction and count as wrong")
    if report.strange:
        lines.append(f"{report.strange:,} predictions name none of the choices and count as wrong")
    lines += report.notes
    return "\n".join(lines)


def _shown(row: ScoreRow) -> str:
    if row.value is None:
        return f"{'-':>8}  "
    return f"{100 * row.value:8.2f} %" if row.unit == "share" else f"{row.value:8.2f}  "
