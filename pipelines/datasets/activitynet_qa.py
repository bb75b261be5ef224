"""ActivityNet-QA (Yu et al. 2019): questions about long web videos, answers in files of their own."""

from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from cache_schema import Question
from cache_schema.errors import InputError
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_COUNTS: Final[dict[Split, int]] = {"train": 32_000, "val": 18_000, "test": 8_000}
_TYPES: Final = (
    "motion",
    "spatial",
    "temporal",
    "yes-no",
    "color",
    "object",
    "location",
    "number",
    "other",
)
_FIRST_FREE: Final = 3
"""Types from here on are the `free` group of the official score."""


class _Answer(NamedTuple):
    text: str
    tags: tuple[str, ...]


def _rows(source: SourceFolder) -> Iterator[Row]:
    for split in _COUNTS:
        name, key = f"{split}_q.json", f"{split}_a.json"
        answers = dict(source.each(key, source.json_array(key), _answer))
        make = partial(_question, source, split, answers)
        yield from source.rows(name, source.json_array(name), make)
        if answers and not source.bad_rows:
            raise InputError(
                f"{source.root / name} lacks the questions of {len(answers)} answers in {key}, the "
                f"first is {next(iter(answers))!r}; the two files must be of one release."
            )


def _answer(record: Record) -> tuple[str, _Answer]:
    kind = record.index("type", _TYPES)
    group = "free" if kind >= _FIRST_FREE else _TYPES[kind]
    tags = (f"type:{_TYPES[kind]}", f"group:{group}")
    return record.name("question_id"), _Answer(record.text("answer"), tags)


def _question(
    source: SourceFolder, split: Split, answers: dict[str, _Answer], record: Record
) -> tuple[Row, ...]:
    question_id, video = record.name("question_id"), record.name("video_name")
    answer = answers.pop(question_id, None)
    if answer is None:
        record.refuse("question_id", f"is {question_id!r}, which {split}_a.json does not answer")
    return (
        *source.clip(video, "videos", f"v_{video}.mp4"),
        Question(
            question_id=question_id,
            clip_id=video,
            question=record.text("question"),
            answer=answer.text,
            split=split,
            tags=answer.tags,
        ),
    )


ACTIVITYNET_QA: Final = Dataset(
    name="activitynet-qa",
    folder="activitynet",
    about="ActivityNet-QA: 58 thousand questions on 5,800 web videos of three minutes",
    task="open-ended",
    files=tuple(
        AnnotationFile(name=f"{split}_{letter}.json", holds=f"{split} {what}")
        for split in _COUNTS
        for letter, what in (("q", "questions"), ("a", "answers"))
    ),
    videos="videos/v_<video name>.mp4",
    licence="annotations and code under the MIT licence; the videos are their makers'",
    offered="annotations with the ActivityNet-QA code, videos by request from ActivityNet",
    splits="official",
    rows=_rows,
    published=tuple(
        PublishedCount(what="questions", split=split, count=count, source="the owners' README")
        for split, count in _COUNTS.items()
    ),
    clips=5_800,
    tags={"type": "nine types", "group": "motion, spatial, temporal or free"},
)
