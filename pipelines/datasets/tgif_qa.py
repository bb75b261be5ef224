"""TGIF-QA (Jang et al. 2017): four tasks on animated pictures; the .csv files are separated by tabs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.tables.question_table import OPEN_ENDED
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.seeded_draw import train_or_val
from pipelines.datasets.source_folder import Row, SourceFolder

VALIDATION_PERCENT: Final = 10
"""Of the training pictures: there is no official validation split."""
_CHOICES: Final = ("a1", "a2", "a3", "a4", "a5")
_FRAME_TYPES: Final = ("object", "number", "color", "location")


def _rows_of(task: str) -> Callable[[SourceFolder], Iterator[Row]]:
    choices = _CHOICES if task in {"action", "transition"} else ()

    def rows(source: SourceFolder) -> Iterator[Row]:
        for part in ("Train", "Test"):
            name = f"{part}_{task}_question.csv"
            columns = ("gif_name", "question", "answer", "vid_id", *choices)
            records = source.table(name, columns, separator="\t")
            make = partial(_question, source, choices, part == "Train")
            yield from source.rows(name, records, make)

    return rows


def _question(
    source: SourceFolder, choices: tuple[str, ...], training: bool, record: Record
) -> tuple[Row, ...]:
    name = record.name("gif_name")
    candidates = tuple(record.text(choice) for choice in choices)
    place = record.index("answer", candidates) if candidates else OPEN_ENDED
    kind = _FRAME_TYPES[record.index("type", _FRAME_TYPES)] if record.has("type") else None
    return (
        *source.clip(name, "gifs", f"{name}.gif"),
        Question(
            # The column is called vid_id and names the question: ACTION12.
            question_id=f"{'train' if training else 'test'}-{record.name('vid_id')}",
            clip_id=name,
            question=record.text("question"),
            answer=candidates[place] if candidates else record.text("answer"),
            split=train_or_val(name, VALIDATION_PERCENT) if training else "test",
            candidates=candidates,
            answer_index=place,
            tags=(f"type:{kind}",) if kind else (),
        ),
    )


def _dataset(task: str, about: str, train: int, test: int, clips: int | None = None) -> Dataset:
    source = "as commonly cited, not checked against the owners' files"
    choose = task in {"action", "transition"}
    return Dataset(
        name=f"tgif-qa-{task}",
        folder="tgif",
        about=f"TGIF-QA, {about}",
        task="multiple-choice" if choose else "open-ended",
        files=tuple(
            AnnotationFile(
                name=f"{part}_{task}_question.csv", holds="questions, tabs between fields"
            )
            for part in ("Train", "Test")
        ),
        videos="gifs/<gif name>.gif",
        licence="academic use only, as its owners state; the pictures are their makers'",
        offered="questions with the TGIF-QA code, pictures by the TGIF project",
        splits="test is official; 10 % of the training pictures are held out, by seeded digest",
        rows=_rows_of(task),
        published=(
            PublishedCount(what="questions", split="train", count=train, source=source),
            PublishedCount(what="questions", split="test", count=test, source=source),
        ),
        clips=clips,
        tags={"type": "object, number, color, location"} if task == "frameqa" else {},
    )


TGIF_QA: Final = (
    _dataset("action", "repeated action: five answers", 20_475, 2_274),
    _dataset("transition", "state transition: five answers", 52_704, 6_232),
    _dataset("frameqa", "one frame: answers in a word", 39_392, 13_691),
    _dataset("count", "repetition count: answers 2 to 10, scored by squared error", 26_843, 3_554),
)
