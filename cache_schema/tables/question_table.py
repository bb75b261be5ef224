"""The neutral table of questions: all that training knows about a data set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cache_schema import field_rules
from cache_schema.clip import clip_id_rule
from cache_schema.errors import Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.tables.parquet_table import read_table, write_table
from cache_schema.tables.row_table import RowTable, TableForm, open_columns, read_rows, write_rows

Split = Literal["train", "val", "test"]

OPEN_ENDED: Final = -1
"""The ``answer_index`` of a question without candidates."""

WHICH_DESCRIPTION: Final = "which caption describes the video?"
"""The question of data sets that have none: their candidates are sentences of their own."""

_SCHEMA: Final = pa.schema(
    [
        ("question_id", pa.string()),
        ("clip_id", pa.string()),
        ("clip_ids", pa.list_(pa.string())),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("candidates", pa.list_(pa.string())),
        ("answer_index", pa.int32()),
        ("tags", pa.list_(pa.string())),
        ("split", pa.string()),
    ]
)
_line: Final = field_rules.text(longest=4000)
tags_rule: Final[Rule] = field_rules.sequence(
    field_rules.remembered(field_rules.text(pattern="[a-z0-9_-]+:.+"))
)
"""Groups that results are reported by, as ``kind:value``; millions of rows share a few."""
_RULES: Final[Mapping[str, Rule]] = {
    "question_id": field_rules.text(),
    "clip_id": clip_id_rule,
    "clip_ids": field_rules.sequence(clip_id_rule),
    "question": _line,
    "answer": _line,
    "candidates": field_rules.sequence(_line),
    "answer_index": field_rules.integer(least=OPEN_ENDED),
    "tags": tags_rule,
    "split": field_rules.one_of("train", "val", "test"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question about one clip or several.

    Raises:
        SchemaError: a field breaks its rule, or the answer does not fit the candidates; carries
            every problem.
    """

    question_id: str
    """Unique name of the question in its table."""
    clip_id: str
    """The clip asked about; of several, the first."""
    question: str
    """The question's text."""
    answer: str
    """The right answer's text."""
    split: Split
    """Which part of the data set the question belongs to."""
    candidates: tuple[str, ...] = ()
    """The answers to choose from; empty for an open-ended question."""
    answer_index: int = OPEN_ENDED
    """Place of the right answer among the candidates or, without candidates, among ``clip_ids``;
    -1 for an open-ended question."""
    tags: tuple[str, ...] = ()
    """Groups that results are reported by, as ``kind:value``: ``type:color``, ``level:core``."""
    clip_ids: tuple[str, ...] = ()
    """All clips of a question about several; empty for a question about one. With an ``answer_index``
    and no candidates the clips are the choice: ``question`` describes one, ``answer`` is its id."""

    def __post_init__(self) -> None:
        problems = check_fields(_values(self), _RULES)
        if not problems:
            problems = [*self._answer_problems(), *self._clip_problems()]
        if problems:
            raise SchemaError(f"question {self.question_id!r}", problems)
        for name in ("candidates", "tags", "clip_ids"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def clips(self) -> tuple[str, ...]:
        """Every clip the question is about, at least one."""
        return self.clip_ids or (self.clip_id,)

    @property
    def choices(self) -> tuple[str, ...]:
        """What is chosen from: the candidates, or the clips; empty for an open-ended question."""
        if self.answer_index == OPEN_ENDED:
            return ()
        return self.candidates or self.clip_ids

    def _answer_problems(self) -> Iterator[Problem]:
        if self.answer_index == OPEN_ENDED and not self.candidates:
            return
        choices = self.candidates or self.clip_ids
        if not choices:
            yield Problem("answer_index", f"is {self.answer_index}, but there are no candidates")
        elif not 0 <= self.answer_index < len(choices):
            what = f"is {self.answer_index}, outside 0 to {len(choices) - 1}"
            yield Problem("answer_index", what)
        elif choices[self.answer_index] != self.answer:
            chosen = choices[self.answer_index]
            yield Problem("answer", f"is {self.answer!r}, but the candidate chosen is {chosen!r}")

    def _clip_problems(self) -> Iterator[Problem]:
        if self.clip_ids and self.clip_ids[0] != self.clip_id:
            yield Problem("clip_id", f"is {self.clip_id!r}, not the first of clip_ids")


QUESTION_FORM: Final = TableForm(kind="questions", schema=_SCHEMA, make=Question)


class QuestionTable(RowTable[Question]):
    """A question table that makes a question only when it is asked for."""

    def in_split(self, split: Split) -> "QuestionTable":
        """The questions of one split."""
        chosen = pc.equal(self.column("split"), split).to_numpy()
        return self.take(np.flatnonzero(chosen))


def write_questions(path: Path, questions: Iterable[Question]) -> None:
    """Writes a question table.

    Raises:
        SchemaError: a question id appears twice.
    """
    write_rows(path, QUESTION_FORM, questions)


def read_questions(path: Path, split: Split | None = None) -> list[Question]:
    """Reads a question table, all of which is checked, and returns one split or all of it.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema; carries every problem with its row.
    """
    questions = read_rows(path, QUESTION_FORM)
    return [question for question in questions if split is None or question.split == split]


def open_questions(path: Path) -> QuestionTable:
    """Opens a question table of any length at once: rows were checked when they were written.

    A table of another program is read whole and checked.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema.
    """
    opened = open_columns(path, QUESTION_FORM)
    return tabled(read_questions(path)) if opened is None else QuestionTable(QUESTION_FORM, *opened)


def choice_text(question: str, candidate: str) -> str:
    """The sentence that stands for a candidate: question and answer, as one text tower reads them."""
    return candidate if question == WHICH_DESCRIPTION else f"{question} {candidate}"


def tabled(questions: Sequence[Question]) -> QuestionTable:
    """The same questions as a table; one that is a table already is returned as it is."""
    if isinstance(questions, QuestionTable):
        return questions

    def column(name: str) -> pa.ChunkedArray:
        values = [getattr(question, name) for question in questions]
        return pa.chunked_array([pa.array(values, _SCHEMA.field(name).type)])

    return QuestionTable(QUESTION_FORM, column, len(questions))


_SPAN = pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())])
_EVIDENCE_SCHEMA: Final = pa.schema([("question_id", pa.string()), ("spans", pa.list_(_SPAN))])


def write_evidence(path: Path, evidence: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Writes where the answers are to be seen, apart from the questions, so that training cannot see it.

    Args:
        path: the Parquet file.
        evidence: question id -> spans (start_s, end_s), in seconds from the clip's file start.

    Raises:
        SchemaError: a span is not finite or does not end after it starts.
    """
    rows = [
        {"question_id": name, "spans": [{"start_s": start, "end_s": end} for start, end in spans]}
        for name, spans in evidence.items()
    ]
    problems = _span_problems(evidence.items())
    if problems:
        raise SchemaError(f"evidence table {path}", problems)
    write_table(path, pa.Table.from_pylist(rows, _EVIDENCE_SCHEMA), "evidence")


def read_evidence(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Reads what ``write_evidence`` wrote: question id -> spans (start_s, end_s).

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema.
    """
    table, _ = read_table(path, "evidence", _EVIDENCE_SCHEMA)
    rows = table.to_pylist()
    evidence = {
        row["question_id"]: [(span["start_s"], span["end_s"]) for span in row["spans"]]
        for row in rows
    }
    problems = [*_duplicates(row["question_id"] for row in rows), *_span_problems(evidence.items())]
    if problems:
        raise SchemaError(f"evidence table {path}", problems)
    return evidence


def _values(question: Question) -> dict[str, object]:
    return {name: getattr(question, name) for name in _RULES}


def _duplicates(ids: Iterable[str]) -> list[Problem]:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for question_id in ids:
        if question_id in seen:
            twice[question_id] = None
        seen.add(question_id)
    return [
        Problem("question_id", f"{question_id!r} is there more than once") for question_id in twice
    ]


def _span_problems(evidence: Iterable[tuple[str, Sequence[tuple[float, float]]]]) -> list[Problem]:
    bound = field_rules.number()
    problems = []
    for question_id, spans in evidence:
        for position, (start, end) in enumerate(spans):
            broken = bound(start) or bound(end)
            if broken is None and start >= end:
                broken = f"ends at {end}, not after its start {start}"
            if broken is not None:
                problems.append(Problem(f"{question_id!r}.spans.{position}", broken))
    return problems
