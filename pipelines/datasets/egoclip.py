"""EgoCLIP (Lin et al. 2022): first-person clips of a second or so and their narrations, to train on."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Caption
from pipelines.datasets import ego4d
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_NAME: Final = "egoclip.csv"
_COLUMNS: Final = (
    "clip_idx",
    "video_uid",
    "clip_start",
    "clip_end",
    "clip_text",
    "tag_verb",
    "tag_noun",
)
_NUMBERS: Final = re.compile(r"\[ *(?:\d{1,9}(?: *, *\d{1,9})*)? *\]")
"""A list as Python prints it. It is matched and split, never evaluated: the file is not ours."""


def _rows(source: SourceFolder) -> Iterator[Row]:
    records = source.table(_NAME, _COLUMNS, separator="\t")
    yield from source.rows(_NAME, records, partial(_caption, source))


def _caption(source: SourceFolder, record: Record) -> tuple[Row, ...]:
    name, clip = ego4d.ego4d_clip(source, record)
    return (
        *clip,
        Caption(
            caption_id=record.name("clip_idx"),
            clip_id=name,
            text=record.text("clip_text"),
            split="train",
            tags=(*_numbers(record, "tag_verb", "verb"), *_numbers(record, "tag_noun", "noun")),
        ),
    )


def _numbers(record: Record, field: str, kind: str) -> Iterator[str]:
    text = record.text(field)
    if _NUMBERS.fullmatch(text) is None:
        record.refuse(field, f"is {text[:60]!r}, not a list of whole numbers such as [192, 115]")
    return (f"{kind}:{int(number)}" for number in re.findall(r"\d+", text))


EGOCLIP: Final = Dataset(
    name="egoclip",
    folder=ego4d.FOLDER,
    about="EgoCLIP: 3.8 million first-person clips with a narration each, for pretraining",
    task="captions",
    files=(AnnotationFile(name=_NAME, holds="one narration a line, separated by tabs"),),
    videos=ego4d.VIDEOS,
    licence=ego4d.LICENCE,
    offered=ego4d.OFFERED,
    splits="all is for training; EgoMCQ is its test",
    rows=_rows,
    published=(
        PublishedCount(
            what="captions", split="train", count=3_847_723, source="the owners' README"
        ),
    ),
    clips=3_847_723,
    tags={"verb": "Ego4D's number of a verb", "noun": "Ego4D's number of a noun"},
)
