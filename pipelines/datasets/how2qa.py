"""How2QA (Li et al. 2020): four answers about stretches of instructional and television-like videos."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.seeded_draw import drawn
from pipelines.datasets.source_folder import Row, SourceFolder
from pipelines.datasets.span_name import span_name

_SPLITS: Final[tuple[Split, ...]] = ("train", "val")
_COLUMNS: Final = ("video", "span", "wrong1", "wrong2", "wrong3", "question", "correct")
"""The files have no header: a reader that takes the first line for one loses a question."""
_SPAN: Final = re.compile(r"\[(\d+(?:\.\d+)?):(\d+(?:\.\d+)?)\]", re.ASCII)


def _rows(source: SourceFolder) -> Iterator[Row]:
    for split in _SPLITS:
        name = f"how2QA_{split}_release.csv"
        records = source.table(name, _COLUMNS, header=False)
        yield from source.rows(name, records, partial(_question, source, split))


def _question(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    video = record.name("video")
    match = _SPAN.fullmatch(record.text("span"))
    if match is None:
        record.refuse("span", f"is {record.text('span')!r}, not [start:end] in seconds")
    start, end = map(float, match.groups())
    clip_id = span_name(video, start, end)
    question_id = f"{split}-{record.line}"
    # The right answer stands last in the file; where it stands here is drawn by the question's id.
    candidates = [record.text(f"wrong{number}") for number in (1, 2, 3)]
    answer = drawn(question_id, 4)
    candidates.insert(answer, record.text("correct"))
    return (
        *source.clip(clip_id, "videos", f"{video}.mp4", start_s=start, end_s=end),
        Question(
            question_id=question_id,
            clip_id=clip_id,
            question=record.text("question"),
            answer=candidates[answer],
            split=split,
            candidates=tuple(candidates),
            answer_index=answer,
        ),
    )


HOW2QA: Final = Dataset(
    name="how2qa",
    folder="how2qa",
    about="How2QA: 44 thousand questions with four answers on one-minute clips",
    task="multiple-choice",
    files=tuple(
        AnnotationFile(name=f"how2QA_{split}_release.csv", holds=f"{split} questions, no header")
        for split in _SPLITS
    ),
    videos="videos/<video id>.mp4",
    licence="as its owners state; the videos are their makers'",
    offered="annotations with the How2R and How2QA repository; videos from YouTube (HowTo100M's)",
    splits="official train and val; the VALUE benchmark's files of the same name are other splits",
    rows=_rows,
    published=(
        PublishedCount(
            what="questions", split="val", count=2_852, source="the owners' file, counted"
        ),
    ),
)
