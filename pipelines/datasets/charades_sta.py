"""Charades-STA (Gao et al. 2017): sentences about stretches of Charades videos, as captions."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Caption
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.seeded_draw import train_or_val
from pipelines.datasets.source_folder import Row, SourceFolder
from pipelines.datasets.span_name import span_name

VALIDATION_PERCENT: Final = 10
"""Of the training videos: there is no official validation split."""
_LINE: Final = re.compile(r"(\w+) (\d+(?:\.\d+)?) (\d+(?:\.\d+)?)##(.+)", re.ASCII)


def _rows(source: SourceFolder) -> Iterator[Row]:
    for part in ("train", "test"):
        name = f"charades_sta_{part}.txt"
        records = (Record(number, None, {"line": line}) for number, line in source.text_lines(name))
        yield from source.rows(name, records, partial(_caption, source, part))


def _caption(source: SourceFolder, part: str, record: Record) -> tuple[Row, ...]:
    match = _LINE.fullmatch(record.text("line"))
    if match is None:
        record.refuse("line", "is not 'video start end##sentence'")
    video, start, end, text = match.groups()
    clip_id = span_name(video, float(start), float(end))
    return (
        *source.clip(clip_id, "videos", f"{video}.mp4", start_s=float(start), end_s=float(end)),
        Caption(
            caption_id=f"{part}-{record.line}",
            clip_id=clip_id,
            text=text,
            split=train_or_val(video, VALIDATION_PERCENT) if part == "train" else "test",
        ),
    )


CHARADES_STA: Final = Dataset(
    name="charades-sta",
    folder="charades-sta",
    about="Charades-STA: 16 thousand sentences about stretches of Charades videos",
    task="captions",
    files=tuple(
        AnnotationFile(name=f"charades_sta_{part}.txt", holds=f"{part} sentences, one a line")
        for part in ("train", "test")
    ),
    videos="videos/<video id>.mp4",
    licence="as its owners state; Charades videos: research only",
    offered="sentences with the TALL code, videos (480p) on Charades' page",
    splits="test is official; 10 % of the training videos are held out, by seeded digest",
    rows=_rows,
    published=(
        PublishedCount(what="captions", split="train", count=12_408, source="the paper"),
        PublishedCount(what="captions", split="test", count=3_720, source="the paper"),
    ),
    clips=16_128,
)
