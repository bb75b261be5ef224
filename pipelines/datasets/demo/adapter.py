"""Reads the demo data set's own annotation files into neutral form."""

import math
from pathlib import Path
from typing import Literal, cast

from cache_schema import Clip, Question
from cache_schema.errors import Problem, SchemaError
from pipelines.datasets.demo.generate import video_path
from pipelines.datasets.json_lines import read_rows
from pipelines.datasets.registry import Annotations, Dataset, Spans

SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
_KEYS = {
    "question_id": str,
    "video_id": str,
    "question": str,
    "answer": str,
    "type": str,
    "level": str,
    "spans": list,
}


def _read_demo(root: Path) -> Annotations:
    return _read(root, "questions_train.jsonl")


def _read_shortcut(root: Path) -> Annotations:
    return _read(root, "questions_train_shortcut.jsonl")


def _read(root: Path, training_file: str) -> Annotations:
    clips, questions, evidence = list[Clip](), list[Question](), dict[str, Spans]()
    for split in SPLITS:
        name = training_file if split == "train" else f"questions_{split}.jsonl"
        path = root / "annotations" / name
        rows = list(read_rows(path, _KEYS))
        for row in rows:
            fields = {key: str(row[key]) for key in _KEYS if key != "spans"}
            questions.append(
                Question(
                    question_id=fields["question_id"],
                    clip_id=fields["video_id"],
                    question=fields["question"],
                    answer=fields["answer"],
                    split=split,
                    tags=(f"type:{fields['type']}", f"level:{fields['level']}"),
                )
            )
            evidence[fields["question_id"]] = _spans(path, fields["question_id"], row["spans"])
        video_ids = dict.fromkeys(str(row["video_id"]) for row in rows)
        clips += [Clip(clip_id=v, path=video_path(root, v)) for v in video_ids]
    return Annotations(clips=clips, questions=questions, evidence=evidence)


def _spans(path: Path, question_id: str, value: object) -> Spans:
    spans = Spans()
    for item in cast("list[object]", value):
        match item:
            case [int() | float() as start, int() | float() as end] if (
                math.isfinite(start) and start < end < math.inf
            ):
                spans.append((float(start), float(end)))
            case _:
                problem = Problem(f"{question_id}.spans", f"{item!r} is not [start_s, end_s]")
                raise SchemaError(str(path), [problem])
    return spans


_WANTED = "The demo's videos are rendered, not downloaded: `videodistill data make demo` writes them to {root}."

DEMO = Dataset(
    name="demo",
    folder="demo",
    about="rendered videos with the answer in a few percent of the frames (the default)",
    wanted=_WANTED,
    read=_read_demo,
)
DEMO_SHORTCUT = Dataset(
    name="demo-shortcut",
    folder="demo",
    about="the demo's videos; the words of its training questions tell on the answers",
    wanted=_WANTED,
    read=_read_shortcut,
)
