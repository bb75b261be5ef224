"""Reads the demo data set's own annotation files into neutral form."""

from collections.abc import Iterator
from functools import partial

from cache_schema import Caption, Question
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset
from pipelines.datasets.demo.generate import video_path
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Evidence, Row, SourceFolder

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def _demo(source: SourceFolder) -> Iterator[Row]:
    yield from _rows(source, "questions_train.jsonl")


def _shortcut(source: SourceFolder) -> Iterator[Row]:
    yield from _rows(source, "questions_train_shortcut.jsonl")


def _rows(source: SourceFolder, training_file: str) -> Iterator[Row]:
    for split in SPLITS:
        name = f"annotations/{training_file if split == 'train' else f'questions_{split}.jsonl'}"
        yield from source.rows(name, source.json_lines(name), partial(_question, source, split))


def _question(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    video, question_id = record.name("video_id"), record.name("question_id")
    return (
        *_clip(source, video),
        Question(
            question_id=question_id,
            clip_id=video,
            question=record.text("question"),
            answer=record.text("answer"),
            split=split,
            tags=(f"type:{record.text('type')}", f"level:{record.text('level')}"),
        ),
        Evidence(question_id=question_id, spans=record.spans("spans")),
    )


def _choices(source: SourceFolder) -> Iterator[Row]:
    for split in SPLITS:
        name = f"annotations/multiple_choice_{split}.jsonl"
        yield from source.rows(name, source.json_lines(name), partial(_choice, source, split))


def _choice(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    video, question_id = record.name("video_id"), record.name("question_id")
    candidates = record.texts("candidates")
    answer = record.index("answer_index", candidates)
    return (
        *_clip(source, video),
        Question(
            question_id=question_id,
            clip_id=video,
            question=record.text("question"),
            answer=candidates[answer],
            split=split,
            candidates=tuple(candidates),
            answer_index=answer,
        ),
        Evidence(question_id=question_id, spans=record.spans("spans")),
    )


def _captions(source: SourceFolder) -> Iterator[Row]:
    for split in SPLITS:
        name = f"annotations/captions_{split}.jsonl"
        yield from source.rows(name, source.json_lines(name), partial(_caption, source, split))


def _caption(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    video = record.name("video_id")
    caption = Caption(caption_id=video, clip_id=video, text=record.text("caption"), split=split)
    return (*_clip(source, video), caption)


def _clip(source: SourceFolder, video: str) -> tuple[Row, ...]:
    return source.clip(video, *video_path(source.root, video).relative_to(source.root).parts)


def _files(training_file: str) -> tuple[AnnotationFile, ...]:
    names = (training_file, "questions_val.jsonl", "questions_test.jsonl")
    return tuple(
        AnnotationFile(name=f"annotations/{name}", holds="questions, one JSON object a line")
        for name in names
    )


def _split_files(stem: str, what: str) -> tuple[AnnotationFile, ...]:
    return tuple(
        AnnotationFile(
            name=f"annotations/{stem}_{split}.jsonl", holds=f"{what}, one JSON object a line"
        )
        for split in SPLITS
    )


_OFFERED = "rendered here, not downloaded: `videodistill data make demo`"
_SPLITS = "one seed each; no video is in two"
_TAGS = {"type": "what is asked", "level": "core, or hard: known to need more than this method has"}

DEMO = Dataset(
    name="demo",
    folder="demo",
    about="rendered videos with the answer in a few percent of the frames (the default)",
    task="open-ended",
    files=_files("questions_train.jsonl"),
    videos="videos/<video id>.mp4",
    licence="as the project's",
    offered=_OFFERED,
    splits=_SPLITS,
    rows=_demo,
    tags=_TAGS,
    rendered=True,
)
DEMO_SHORTCUT = Dataset(
    name="demo-shortcut",
    folder="demo",
    about="the demo's videos; the words of its training questions tell on the answers",
    task="open-ended",
    files=_files("questions_train_shortcut.jsonl"),
    videos="videos/<video id>.mp4",
    licence="as the project's",
    offered=_OFFERED,
    splits=_SPLITS,
    rows=_shortcut,
    tags=_TAGS,
    rendered=True,
)
DEMO_CHOICES = Dataset(
    name="demo-choices",
    folder="demo",
    about="the demo's videos; which of five things appears, two questions a video",
    task="multiple-choice",
    files=_split_files("multiple_choice", "choices"),
    videos="videos/<video id>.mp4",
    licence="as the project's",
    offered=_OFFERED,
    splits=_SPLITS,
    rows=_choices,
    rendered=True,
)
DEMO_CAPTIONS = Dataset(
    name="demo-captions",
    folder="demo",
    about="the demo's videos; a sentence about each, to pretrain on and to find it by",
    task="retrieval",
    files=_split_files("captions", "captions"),
    videos="videos/<video id>.mp4",
    licence="as the project's",
    offered=_OFFERED,
    splits=_SPLITS,
    rows=_captions,
    rendered=True,
)
