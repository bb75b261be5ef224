"""AGQA 2.0 balanced (Grunde-McLaughlin et al. 2022): questions about Charades videos."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from cache_schema import Clip, Question
from cache_schema.errors import InputError, Problem, SchemaError
from pipelines.datasets.registry import Annotations, Dataset

REASONING = {
    "obj-rel": "object-relation",
    "rel-act": "relation-action",
    "obj-act": "object-action",
    "superlative": "superlative",
    "sequencing": "sequencing",
    "exists": "exists",
    "duration-comparison": "duration-comparison",
    "action-recognition": "activity-recognition",
}
"""Words of the `global` field -> the row names of the paper's Table 1; a question may have several."""
VALIDATION_SHARE = 10
"""Percent of the training *videos* held out for validation: AGQA has no official split, and
choosing the best checkpoint on the test set, as is often done, flatters the result."""
_KEYS = ("question", "answer", "video_id", "global", "ans_type", "semantic", "structural")


def _read(root: Path) -> Annotations:
    questions = list[Question]()
    for split in ("train", "test"):
        path = root / f"{split}_balanced.txt"
        problems = list[Problem]()
        for question_id, record in _records(path).items():
            try:
                questions.append(_question(question_id, record, split == "train"))
            except SchemaError as error:
                problems += [Problem(f"{question_id}.{at}", what) for at, what in error.problems]
        if problems:
            raise SchemaError(str(path), problems)
    ids = dict.fromkeys(question.clip_id for question in questions)
    clips = [Clip(clip_id=v, path=root / "videos" / f"{_safe(v)}.mp4") for v in ids]
    return Annotations(clips=clips, questions=questions)


def _records(path: Path) -> dict[str, object]:
    """The file's one JSON object; .txt by name."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            f"There is no annotation file {path}.\n{AGQA.wanted.format(root=path.parent)}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not JSON: {error}. Take it from the official archive."
        ) from error
    if not isinstance(found, dict):
        raise InputError(
            f"{path} is a JSON {type(found).__name__}, not an object keyed by question id."
        )
    return found


def _question(question_id: str, record: object, training: bool) -> Question:
    if not isinstance(record, dict):
        raise SchemaError(question_id, [Problem("", "is not an object")])
    missing = [Problem(key, "is missing") for key in _KEYS if key not in record]
    if missing:
        raise SchemaError(question_id, missing)
    words = record["global"] if isinstance(record["global"], list) else [record["global"]]
    kinds = [REASONING[word] for word in words if word in REASONING]
    video = str(record["video_id"])
    return Question(
        question_id=question_id,
        clip_id=video,
        question=str(record["question"]),
        answer=str(record["answer"]),
        split=_split(video) if training else "test",
        tags=(
            *(f"type:{kind}" for kind in kinds),
            f"semantic:{record['semantic']}",
            f"structural:{record['structural']}",
            f"ans_type:{record['ans_type']}",
        ),
    )


def _split(video_id: str) -> Literal["train", "val"]:
    """By a digest of the video's id: no video straddles, and no seed is needed to repeat it."""
    bucket = int.from_bytes(hashlib.blake2b(video_id.encode(), digest_size=4).digest()) % 100
    return "val" if bucket < VALIDATION_SHARE else "train"


def _safe(video_id: str) -> str:
    """Charades ids are letters and digits; anything else would be a path, and is refused."""
    if not video_id.isascii() or not video_id.isalnum():
        raise SchemaError("AGQA", [Problem("video_id", f"{video_id!r} is not a Charades id")])
    return video_id


AGQA = Dataset(
    name="agqa",
    folder="agqa",
    about="AGQA 2.0 balanced: 2.27 million questions about 9.6 thousand Charades videos",
    wanted=(
        "AGQA's owners offer the questions (AGQA 2.0 balanced, .txt) on the AGQA project page, and the\n"
        "videos as Charades (480p) on the Charades project page; each under its own licence. Put there:\n"
        "  {root}/train_balanced.txt\n"
        "  {root}/test_balanced.txt\n"
        "  {root}/videos/<video id>.mp4     for instance YSKX3.mp4"
    ),
    read=_read,
)
