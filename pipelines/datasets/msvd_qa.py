"""MSVD-QA (Xu et al. 2017): questions made of the captions of the Microsoft video description corpus."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.errors import InputError
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.question_words import question_word
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
_MAPPING: Final = "youtube_mapping.txt"


def _rows(source: SourceFolder) -> Iterator[Row]:
    files = _file_names(source)
    for split in _SPLITS:
        name = f"{split}_qa.json"
        make = partial(_question, source, split, files)
        yield from source.rows(name, source.json_array(name), make)


def _file_names(source: SourceFolder) -> dict[str, str]:
    """`vid12` -> the name of its file without ending; each line is the name and then the number."""
    files = dict[str, str]()
    for number, line in source.text_lines(_MAPPING):
        name, space, video = line.rpartition(" ")
        if not space or video in files:
            raise InputError(
                f"{source.root / _MAPPING}, line {number}: {line!r} is not a file's name, a space, and "
                "a video's number that was not there before."
            )
        files[video] = name
    return files


def _question(
    source: SourceFolder, split: Split, files: Mapping[str, str], record: Record
) -> tuple[Row, ...]:
    video = f"vid{record.whole('video_id')}"
    if video not in files:
        record.refuse("video_id", f"is {video!r}, which {_MAPPING} does not name")
    question = record.text("question")
    return (
        *source.clip(video, "videos", f"{files[video]}.avi"),
        Question(
            question_id=record.name("id"),
            clip_id=video,
            question=question,
            answer=record.text("answer"),
            split=split,
            tags=(f"type:{question_word(question)}",),
        ),
    )


_FILES: Final = "the owners' files, counted"

MSVD_QA: Final = Dataset(
    name="msvd-qa",
    folder="msvd",
    about="MSVD-QA: 50 thousand questions about 1,970 short clips",
    task="open-ended",
    files=(
        *(
            AnnotationFile(name=f"{split}_qa.json", holds=f"{split} questions, a JSON array")
            for split in _SPLITS
        ),
        AnnotationFile(name=_MAPPING, holds="file name and number of every video"),
    ),
    videos="videos/<youtube id>_<start>_<end>.avi",
    licence="as the corpus' owners state; research use",
    offered="questions on the project page of the paper 'Video Question Answering via Gradually "
    "Refined Attention'; videos on the page of the Microsoft video description corpus",
    splits="official",
    rows=_rows,
    published=(
        PublishedCount(what="questions", split="train", count=30_933, source=_FILES),
        PublishedCount(what="questions", split="val", count=6_415, source=_FILES),
        PublishedCount(what="questions", split="test", count=13_157, source=_FILES),
    ),
    clips=1_970,
    tags={"type": "first word: what, who, how, when, where"},
)
