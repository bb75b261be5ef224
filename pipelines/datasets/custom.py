"""A data set of one's own: a clip list, and questions or captions as CSV, JSON Lines or Parquet."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from cache_schema import Caption, Question, read_clips
from cache_schema.errors import InputError
from cache_schema.tables.question_table import OPEN_ENDED, Split
from pipelines.datasets.dataset import AnnotationFile, Dataset
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Evidence, Row, SourceFolder

_QUESTION_COLUMNS: Final = ("question_id", "clip_id", "question", "answer", "split")
_CAPTION_COLUMNS: Final = ("caption_id", "clip_id", "text", "split")
_ENDINGS: Final = ("csv", "jsonl", "parquet")


def _rows(source: SourceFolder) -> Iterator[Row]:
    clips = read_clips(source.read_as("clips.csv"), source.root)
    yield from clips
    ids = frozenset(clip.clip_id for clip in clips)
    there = [f"{stem}.{end}" for stem in ("questions", "captions") for end in _ENDINGS]
    there = [name for name in there if source.exists(name)]
    if not there:
        raise InputError(
            f"There is neither a table of questions nor one of captions in {source.root}: "
            f"questions.csv, .jsonl or .parquet, or captions. likewise. "
            "`videodistill data template` writes examples."
        )
    for name in there:
        questions = name.startswith("questions")
        columns = _QUESTION_COLUMNS if questions else _CAPTION_COLUMNS
        make = partial(_question if questions else _caption, ids)
        yield from source.rows(name, _records(source, name, columns), make)


def _records(source: SourceFolder, name: str, columns: tuple[str, ...]) -> Iterator[Record]:
    if name.endswith(".csv"):
        yield from source.table(name, columns)
    elif name.endswith(".jsonl"):
        yield from source.json_lines(name)
    else:
        yield from _parquet(source.read_as(name))


def _parquet(path: Path) -> Iterator[Record]:
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=8192)
        number = 0
        for batch in batches:
            for values in batch.to_pylist():
                number += 1
                yield Record(number, None, values)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as a Parquet table: {error}") from error


def _question(clips: frozenset[str], record: Record) -> tuple[Row, ...]:
    candidates = _texts(record, "candidates")
    clip_ids = _texts(record, "clip_ids")
    answer = record.text("answer")
    for clip_id in (record.name("clip_id"), *clip_ids):
        if clip_id not in clips:
            record.refuse("clip_id", f"is {clip_id!r}, which is not in clips.csv")
    question = Question(
        question_id=record.name("question_id"),
        clip_id=record.name("clip_id"),
        question=record.text("question"),
        answer=answer,
        split=cast("Split", record.text("split")),
        candidates=candidates,
        answer_index=_place(record, answer, candidates or clip_ids),
        tags=_tags(record),
        clip_ids=clip_ids,
    )
    if not record.has("spans"):
        return (question,)
    return (question, Evidence(question_id=question.question_id, spans=record.spans("spans")))


def _caption(clips: frozenset[str], record: Record) -> tuple[Row, ...]:
    clip_id = record.name("clip_id")
    if clip_id not in clips:
        record.refuse("clip_id", f"is {clip_id!r}, which is not in clips.csv")
    return (
        Caption(
            caption_id=record.name("caption_id"),
            clip_id=clip_id,
            text=record.text("text"),
            split=cast("Split", record.text("split")),
            tags=_tags(record),
        ),
    )


def _place(record: Record, answer: str, choices: tuple[str, ...]) -> int:
    if not choices:
        return OPEN_ENDED
    if record.has("answer_index"):
        return record.index("answer_index", choices)
    if choices.count(answer) != 1:
        what = f"{answer!r} is there {choices.count(answer)} times; once is wanted, or answer_index"
        record.refuse("candidates", what)
    return choices.index(answer)


def _tags(record: Record) -> tuple[str, ...]:
    kind = (f"type:{record.text('type')}",) if record.has("type") else ()
    return (*kind, *_texts(record, "tags"))


def _texts(record: Record, field: str) -> tuple[str, ...]:
    """A list; in a CSV it is written as JSON: ["red", "blue"]."""
    if not record.has(field):
        return ()
    if not record.is_text(field):
        return tuple(record.texts(field))
    try:
        value = json.loads(record.text(field))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        record.refuse(field, 'is no list; in a CSV a list is written ["red", "blue"]')
    return tuple(Record(record.line, record.key, {field: value}).texts(field))


CUSTOM = Dataset(
    name="custom",
    folder="custom",
    about="videos of your own, with questions or captions in a documented table",
    task="open-ended",
    files=(
        AnnotationFile(name="clips.csv", holds="clip_id,path,start_s,end_s; bounds may be empty"),
        AnnotationFile(
            name="questions.*",
            holds="csv, jsonl or parquet: question_id, clip_id, question, answer, split, ...",
            optional=True,
        ),
        AnnotationFile(
            name="captions.*",
            holds="csv, jsonl or parquet: caption_id, clip_id, text, split, ...",
            optional=True,
        ),
    ),
    videos="videos/<any name>",
    licence="yours",
    offered="by you; `videodistill data template` writes example tables to start from",
    splits="the column `split` of your tables: train, val or test",
    rows=_rows,
    tags={"type": "the column `type`", "": "whatever the column `tags` holds, as kind:value"},
)
