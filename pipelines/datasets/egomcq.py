"""EgoMCQ (Lin et al. 2022): which of five first-person clips a narration tells of; test only."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.clip import Clip
from pipelines.datasets import ego4d
from pipelines.datasets.dataset import AnnotationFile, Dataset
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_NAME: Final = "egomcq.json"
_PUBLISHED_TYPES: Final = {1: "inter", 2: "intra"}
"""The owners' loader says so, and the accuracies too; their printed labels are swapped."""


def _rows(source: SourceFolder) -> Iterator[Row]:
    yield from source.rows(_NAME, source.json_object(_NAME), partial(_choice, source))


def _choice(source: SourceFolder, record: Record) -> tuple[Row, ...]:
    choices = record.records("choices")
    if len(choices) != 5:
        record.refuse("choices", f"are {len(choices)}, not 5")
    names, new = list[str](), list[Clip]()
    for choice in choices:
        name, clip = ego4d.ego4d_clip(source, choice)
        names.append(name)
        new += clip
    videos = {choice.name("video_uid") for choice in choices}
    kind = "intra" if len(videos) == 1 else "inter"
    if record.has("types") and _PUBLISHED_TYPES.get(record.whole("types")) != kind:
        source.noted["are of another type than their five videos show; the videos count"] += 1
    answer = record.index("answer", choices)
    return (
        *new,
        Question(
            question_id=record.key or "",
            clip_id=names[0],
            clip_ids=tuple(names),
            question=record.record("query").text("clip_text"),
            answer=names[answer],
            answer_index=answer,
            split="test",
            tags=(f"type:{kind}",),
        ),
    )


EGOMCQ: Final = Dataset(
    name="egomcq",
    folder=ego4d.FOLDER,
    about="EgoMCQ: a narration and five first-person clips to choose from; test only",
    task="clip-choice",
    files=(AnnotationFile(name=_NAME, holds="all choices, one JSON object"),),
    videos=ego4d.VIDEOS,
    licence=ego4d.LICENCE,
    offered=ego4d.OFFERED,
    splits="test only: it is answered by a model trained on EgoCLIP",
    rows=_rows,
    tags={"type": "inter: clips of several videos (easier), intra: of one video"},
)
