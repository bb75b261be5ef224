"""MSRVTT-QA (Xu et al. 2017): questions made of the captions of MSR-VTT."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.question_words import question_word
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")


def _rows(source: SourceFolder) -> Iterator[Row]:
    for split in _SPLITS:
        name = f"{split}_qa.json"
        yield from source.rows(name, source.json_array(name), partial(_question, source, split))


def _question(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    video = f"video{record.whole('video_id')}"
    question = record.text("question")
    return (
        *source.clip(video, "videos", f"{video}.mp4"),
        Question(
            question_id=record.name("id"),
            clip_id=video,
            question=question,
            answer=record.text("answer"),
            split=split,
            tags=(f"type:{question_word(question)}", f"category:{record.whole('category_id')}"),
        ),
    )


_FILES: Final = "the owners' files, counted"

MSRVTT_QA: Final = Dataset(
    name="msrvtt-qa",
    folder="msrvtt",
    about="MSRVTT-QA: 244 thousand questions about the 10 thousand clips of MSR-VTT",
    task="open-ended",
    files=tuple(
        AnnotationFile(name=f"{split}_qa.json", holds=f"{split} questions, a JSON array")
        for split in _SPLITS
    ),
    videos="videos/video<n>.mp4",
    licence="as MSR-VTT's owners state; research use",
    offered="questions on the project page of the paper 'Video Question Answering via Gradually "
    "Refined Attention'; videos from the owners of MSR-VTT",
    splits="official",
    rows=_rows,
    published=(
        PublishedCount(what="questions", split="train", count=158_581, source=_FILES),
        PublishedCount(what="questions", split="val", count=12_278, source=_FILES),
        PublishedCount(what="questions", split="test", count=72_821, source=_FILES),
    ),
    clips=10_000,
    tags={
        "type": "first word: what, who, how, when, where",
        "category": "MSR-VTT's topic, 0 to 19",
    },
)
