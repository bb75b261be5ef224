"""STAR (Wu et al. 2021): situated reasoning about stretches of Charades videos."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder
from pipelines.datasets.span_name import span_name

_SPLITS: Final[tuple[Split, ...]] = ("train", "val")
_TYPES: Final = ("Interaction", "Sequence", "Prediction", "Feasibility")


def _rows(source: SourceFolder) -> Iterator[Row]:
    for split in _SPLITS:
        name = f"STAR_{split}.json"
        yield from source.rows(name, source.json_array(name), partial(_question, source, split))


def _question(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    question_id, video = record.name("question_id"), record.name("video_id")
    kind = question_id.partition("_")[0]
    if kind not in _TYPES:
        record.refuse("question_id", f"is {question_id!r}; it begins with none of {_TYPES}")
    start, end = record.number("start"), record.number("end")
    clip_id = span_name(video, start, end)
    choices = {c.whole("choice_id"): c.text("choice") for c in record.records("choices")}
    candidates = tuple(choices[number] for number in sorted(choices))
    answer = record.text("answer")
    if candidates.count(answer) != 1:
        record.refuse("answer", f"{answer!r} is {candidates.count(answer)} times in the choices")
    # `situations` and `question_program` would give the answer away; they are not read.
    return (
        *source.clip(clip_id, "videos", f"{video}.mp4", start_s=start, end_s=end),
        Question(
            question_id=question_id,
            clip_id=clip_id,
            question=record.text("question"),
            answer=answer,
            split=split,
            candidates=candidates,
            answer_index=candidates.index(answer),
            tags=(f"type:{kind.lower()}",),
        ),
    )


STAR: Final = Dataset(
    name="star",
    folder="star",
    about="STAR: 60 thousand questions on interaction, sequence, prediction and feasibility",
    task="multiple-choice",
    files=tuple(
        AnnotationFile(name=f"STAR_{split}.json", holds=f"{split} questions") for split in _SPLITS
    ),
    videos="videos/<video id>.mp4",
    licence="annotations as their owners state; Charades videos: research only",
    offered="annotations on the STAR project page, videos (480p) on Charades' page",
    splits="official train and val; the test answers are kept by its owners, so val is reported",
    rows=_rows,
    published=(
        PublishedCount(
            what="questions", split="val", count=7_098, source="the owners' file, counted"
        ),
    ),
    clips=22_000,
    tags={"type": "interaction, sequence, prediction, feasibility; the score is their mean"},
)
