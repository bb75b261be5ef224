"""How much of a question table a store has features for, and the part of it that can be used."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache_schema.errors import ClipMissing, InputError
from cache_schema.tables.question_table import QuestionTable, Split


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """What a store has of one split's questions."""

    questions: int
    clips: int
    """Distinct clips that they are about."""
    covered_questions: int
    """Questions of which every clip has features."""
    covered_clips: int
    first_missing: str | None = None
    """A clip without features; None where there is none."""

    @property
    def share(self) -> float:
        """Of the questions, those that can be used; 1 of none."""
        return self.covered_questions / self.questions if self.questions else 1.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"share": self.share}

    def __str__(self) -> str:
        return (
            f"{self.covered_questions:,} of {self.questions:,} questions and {self.covered_clips:,} of "
            f"{self.clips:,} clips have features"
        )


def coverage_of(questions: QuestionTable, clip_ids: Collection[str]) -> Coverage:
    """Count what can be used of a split.

    Args:
        questions: the split.
        clip_ids: the clips that have features.
    """
    asked = pc.unique(_clip_of_row(questions)[0])
    missing = asked.filter(pc.invert(pc.is_in(asked, _ids(clip_ids))))
    return Coverage(
        questions=len(questions),
        clips=len(asked),
        covered_questions=int(_covered(questions, clip_ids).sum()),
        covered_clips=len(asked) - len(missing),
        first_missing=min(missing.to_pylist(), default=None),
    )


def coverage_by_split(questions: QuestionTable, clip_ids: Collection[str]) -> dict[Split, Coverage]:
    """Count what can be used of each split that has questions."""
    tables = {split: questions.in_split(split) for split in get_args(Split)}
    return {split: coverage_of(table, clip_ids) for split, table in tables.items() if len(table)}


def usable(
    questions: QuestionTable, clip_ids: Collection[str], least_share: float, split: Split
) -> QuestionTable:
    """Leave out the questions that the store lacks a clip of.

    Args:
        questions: of one split.
        clip_ids: the clips that have features.
        least_share: the share of the questions that must be left; 1 refuses any gap.
        split: names the questions in messages.

    Raises:
        InputError: there are no questions.
        ClipMissing: less is left than asked for, or nothing.
    """
    if not len(questions):
        raise InputError(
            f"There are no questions or captions in the split {split!r}. Training learns from 'train' and "
            "chooses its best checkpoint on 'val', evaluation asks 'test': give some rows of the data "
            f"set's table the split {split!r}."
        )
    found = coverage_of(questions, clip_ids)
    if found.first_missing is None:
        return questions
    if not found.covered_questions:
        raise ClipMissing(
            f"{split}: of none of the {len(questions):,} questions are all clips among the "
            f"{len(clip_ids):,} that the store has features of (first without: {found.first_missing!r}). "
            "Is it the store of this data set?"
        )
    if found.share < least_share:
        raise ClipMissing(
            f"{split}: {found} (first clip without: {found.first_missing!r}); wanted are "
            f"{least_share:.1%} of the questions. Extract the missing clips, or leave their questions out "
            "with --skip-missing, or with --min-coverage and the share that must be left."
        )
    return questions.take(np.flatnonzero(_covered(questions, clip_ids)))


def _covered(questions: QuestionTable, clip_ids: Collection[str]) -> NDArray[np.bool_]:
    """Whether every clip of a question has features [questions]."""
    clips, row = _clip_of_row(questions)
    lacking = row[~pc.is_in(clips, _ids(clip_ids)).to_numpy(zero_copy_only=False)]
    covered = np.ones(len(questions), bool)
    covered[lacking] = False
    return covered


def _clip_of_row(questions: QuestionTable) -> tuple[pa.Array, NDArray[np.int64]]:
    """Every clip of every question, flat, and the question's row."""
    several = questions.column("clip_ids").combine_chunks()
    first = questions.column("clip_id").combine_chunks()
    rows = np.arange(len(questions))
    further = np.repeat(rows, pc.list_value_length(several).to_numpy(zero_copy_only=False))
    return pa.concat_arrays([first, several.flatten()]), np.concatenate([rows, further])


def _ids(clip_ids: Collection[str]) -> pa.Array:
    return pa.array(clip_ids, pa.string())
