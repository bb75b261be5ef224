"""MSRVTT-MC (Yu et al. 2018): which of five captions is a clip's own; test only."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.tables.question_table import WHICH_DESCRIPTION
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_PATTERN: Final = "msrvtt*mc_test.jsonl"


def _rows(source: SourceFolder) -> Iterator[Row]:
    name = source.matching(_PATTERN)[0]
    yield from source.rows(name, source.json_lines(name), partial(_choice, source))


def _choice(source: SourceFolder, record: Record) -> tuple[Row, ...]:
    video = record.name("clip_name")
    options = record.texts("options")
    if len(options) != 5:
        record.refuse("options", f"are {len(options)}, not 5")
    answer = record.index("answer", options)
    return (
        *source.clip(video, "videos", f"{video}.mp4"),
        Question(
            question_id=record.name("qid"),
            clip_id=video,
            question=WHICH_DESCRIPTION,
            answer=options[answer],
            split="test",
            candidates=tuple(options),
            answer_index=answer,
        ),
    )


MSRVTT_MC: Final = Dataset(
    name="msrvtt-mc",
    folder="msrvtt",
    about="MSRVTT-MC: 2,990 clips with five captions to choose from; test only",
    task="multiple-choice",
    files=(AnnotationFile(name=_PATTERN, holds="one choice a line (msrvtt_mc_test.jsonl)"),),
    videos="videos/video<n>.mp4",
    licence="as MSR-VTT's owners state; research use",
    offered="the choices with the code of JSFusion, ClipBERT and All-in-one; videos from MSR-VTT's owners",
    splits="test only: it is answered by a model trained for retrieval or on captions",
    rows=_rows,
    published=(
        PublishedCount(
            what="questions", split="test", count=2_990, source="the owners' file, counted"
        ),
    ),
    clips=2_990,
)
