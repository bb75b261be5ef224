"""A data set of one's own: a clip list and a question file in two documented formats."""

from pathlib import Path

from cache_schema import Question, read_clips
from cache_schema.errors import Problem, SchemaError
from pipelines.datasets.json_lines import read_rows
from pipelines.datasets.registry import Annotations, Dataset

_KEYS = {"question_id": str, "clip_id": str, "question": str, "answer": str, "split": str}


def _read(root: Path) -> Annotations:
    clips = read_clips(root / "clips.csv", root)
    path = root / "questions.jsonl"
    questions, problems = list[Question](), list[Problem]()
    for row in read_rows(path, _KEYS):
        try:
            questions.append(Question(**_fields(row)))  # type: ignore[arg-type]
        except SchemaError as error:
            problems += [Problem(f"{row['question_id']}.{at}", what) for at, what in error.problems]
    unknown = {q.clip_id for q in questions} - {c.clip_id for c in clips}
    problems += [
        Problem(str(path), f"clip {name!r} is not in clips.csv") for name in sorted(unknown)
    ]
    if problems:
        raise SchemaError(str(path), problems)
    return Annotations(clips=clips, questions=questions)


def _fields(row: dict[str, object]) -> dict[str, object]:
    kind = row.get("type")
    return {
        **{key: row[key] for key in _KEYS},
        "tags": (f"type:{kind}",) if isinstance(kind, str) else (),
    }


CUSTOM = Dataset(
    name="custom",
    folder="custom",
    about="videos and open-ended questions of your own",
    wanted=(
        "Put there:\n"
        "  {root}/clips.csv        clip_id,path,start_s,end_s (path relative to {root}; bounds may be empty)\n"
        "  {root}/questions.jsonl  one object a line: question_id, clip_id, question, answer,\n"
        "                          split (train, val or test), and perhaps type\n"
        "  and the videos that clips.csv names."
    ),
    read=_read,
)
