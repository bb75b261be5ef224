"""Which clips a command is to work on: those of a question table, of a split, or of a list."""

import csv
from pathlib import Path
from typing import cast, get_args

from cache_schema import InputError, read_questions
from cache_schema.tables.question_table import Split


def chosen_clips(
    *, questions: Path | None = None, split: str | None = None, clips: Path | None = None
) -> list[str] | None:
    """Returns the ids of the clips asked for, each once; None if nothing was said, which means all.

    Args:
        questions: a question table.
        split: part of the question table.
        clips: a text file with one clip id a line, or a CSV with a column ``clip_id``.

    Raises:
        InputError: the options do not go together, or a file cannot be read.
        SchemaError: the question table breaks its schema.
    """
    if questions is not None and clips is not None:
        raise InputError("Give a question table or a list of clips, not both.")
    if split is not None and questions is None:
        raise InputError("--split says which part of a question table is meant; give --questions.")
    if split is not None and split not in get_args(Split):
        raise InputError(f"--split is {split!r}; it can be {', '.join(get_args(Split))}.")
    if questions is not None:
        table = read_questions(questions, cast("Split | None", split))
        return list(dict.fromkeys(clip for question in table for clip in question.clips))
    return None if clips is None else _listed(clips)


def _listed(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"The list of clips {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The list of clips {path} is not UTF-8 text; save it as such.") from error
    if lines and "clip_id" in lines[0].split(","):
        ids = [row["clip_id"] for row in csv.DictReader(lines)]
    else:
        ids = [line.strip() for line in lines]
    ids = list(dict.fromkeys(clip_id for clip_id in ids if clip_id))
    if not ids:
        raise InputError(f"The list of clips {path} names none: one id a line is expected.")
    return ids
