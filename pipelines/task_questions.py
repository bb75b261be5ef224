"""What a run's task asks of a data set: questions in words, choices, or captions to tell apart."""

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cache_schema.errors import InputError
from cache_schema.tables.question_table import (
    OPEN_ENDED,
    QUESTION_FORM,
    QuestionTable,
    tabled,
)
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.seeded_draw import drawn
from train.caption_pairs import caption_questions
from train.config import Task

MOST_HELD_OUT: Final = 2_000
"""Clips that validation takes of captions that are all for training; one in twenty, if that is less."""
_ALL_PLACES: Final = 1 << 62


def task_questions(dataset: Dataset, annotations: Annotations, task: Task) -> QuestionTable:
    """The questions of a data set that a run of a task is trained on and asked, all splits.

    A data set may have several kinds; those of another task are left out. Captions that are all for
    training lend some of their clips to validation; `held_out` says which.

    Raises:
        InputError: there are none for this task; says which task fits.
    """
    if task == "pretrain":
        if not annotations.captions:
            raise InputError(
                f"{dataset.name!r} has no captions to pretrain on; `videodistill data ls` tells which data "
                "sets have."
            )
        return held_out(caption_questions(annotations.captions))
    table = tabled(annotations.questions)
    if not len(table):
        raise InputError(
            f'{dataset.name!r} has captions and no questions: its runs have task = "pretrain" '
            f"(`videodistill pretrain {dataset.name}`), not {task!r}."
        )
    chosen = pc.not_equal(table.column("answer_index"), OPEN_ENDED).to_numpy()
    fits = chosen if task == "choose" else ~chosen
    if not fits.any():
        other = "answer" if task == "choose" else "choose"
        has = "wants answers in words" if task == "choose" else "gives choices to each question"
        raise InputError(
            f"{dataset.name!r} {has}, and this run has task = {task!r}; take the data set's own preset, "
            f'or set task = "{other}".'
        )
    return table if fits.all() else table.take(np.flatnonzero(fits))


def require_training(dataset: Dataset, annotations: Annotations) -> None:
    """Refuse to train where there is nothing but a test.

    Raises:
        InputError: says how the data set is answered instead.
    """
    tables = (tabled(annotations.questions), caption_questions(annotations.captions))
    splits = [split for table in tables for split in table.column("split").to_pylist()]
    if "train" not in splits:
        raise InputError(
            f"{dataset.name!r} is for testing: none of its {len(splits):,} questions is in 'train'. Answer "
            "it with a run that was trained elsewhere on features of the same identity: "
            f"videodistill evaluate {dataset.name} --run runs/DATASET/RUN"
        )


def held_out(captions: QuestionTable) -> QuestionTable:
    """Give validation some of the training clips where a data set has no split for it.

    The clips are those whose ids have the lowest keyed digest: the same ones on every machine.
    """
    split = captions.column("split").combine_chunks()
    if pc.any(pc.equal(split, "val")).as_py():
        return captions
    clip = captions.column("clip_id").combine_chunks()
    training = pc.equal(split, "train")
    clips = pc.unique(clip.filter(training)).to_pylist()
    least = min(MOST_HELD_OUT, max(2, len(clips) // 20))
    lent = pa.array(sorted(clips, key=lambda name: drawn(name, _ALL_PLACES))[:least], pa.string())
    moved = pc.and_(training, pc.is_in(clip, lent))
    made = pa.chunked_array([pc.if_else(moved, "val", split)])

    def column(name: str) -> pa.ChunkedArray:
        return made if name == "split" else captions.column(name)

    return QuestionTable(QUESTION_FORM, column, len(captions))
