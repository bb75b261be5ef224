"""Reads what a model answered: our own table, or the files that other projects write."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from cache_schema.errors import InputError, Problem, SchemaError
from pipelines.datasets import json_stream
from pipelines.datasets.record import tidied

Given = str | int
"""An answer in words, or the place of the chosen one, from 0."""

_ID_KEYS: Final = ("question_id", "qid")
_ANSWER_KEYS: Final = ("prediction", "answer")
"""Where both are there, `answer` is the right one, as in NExT-QA's result files."""
_SHOWN: Final = 5


class _Entry(NamedTuple):
    place: str
    question_id: str
    given: Given


def read_given(path: Path) -> dict[str, Given]:
    """Question id -> the answer given.

    Args:
        path: one of
            - `.parquet`: our own table of predictions;
            - `.jsonl`: one object a line with `question_id` (or `qid`) and `prediction` or `answer`;
            - `.json`, an array of such objects (ActivityNet-QA's form);
            - `.json`, an object from question ids to such objects (NExT-QA's form) or to answers
              (EgoSchema's form);
            - `.json`, an object from videos to objects from question numbers to answers (the form of
              NExT-QA's open-ended results); the id is then `<video>_<number>`.

    Raises:
        InputError: there is no such file, it is of no such form, a question is there twice, or entries
            lack an id or an answer; says where the first of them are.
    """
    if not path.is_file():
        raise InputError(f"There is no file of predictions {path}.")
    match path.suffix:
        case ".parquet":
            entries: Iterable[_Entry] = _own_table(path)
        case ".jsonl":
            entries = _checked(path, _lines(path))
        case ".json":
            entries = _checked(path, _by_question(_document(path)))
        case other:
            raise InputError(
                f"{path} ends in {other!r}; predictions are .parquet (ours), .jsonl or .json."
            )
    given, twice = dict[str, Given](), list[str]()
    try:
        for entry in entries:
            if entry.question_id in given:
                twice.append(f"{entry.question_id!r} ({entry.place})")
            given[entry.question_id] = entry.given
    except SchemaError as error:
        raise InputError(str(error)) from error
    if twice:
        raise InputError(
            f"{path} answers {len(twice):,} questions more than once: {shown(twice)}. Which answer counts "
            "must be said by leaving out the others."
        )
    return given


def shown(names: Iterable[str], most: int = _SHOWN) -> str:
    """The first few names, and that there are more."""
    listed = list(names)
    return ", ".join(listed[:most]) + (", ..." if len(listed) > most else "")


def _own_table(path: Path) -> Iterator[_Entry]:
    from train.predictions import read_answers

    for row, (question_id, predicted) in enumerate(read_answers(path)):
        yield _Entry(f"row {row}", question_id, tidied(predicted))


def _lines(path: Path) -> Iterator[json_stream.Entry]:
    decode = json_stream.strict_decoder().decode
    number = 0
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield json_stream.Entry(number, None, decode(line))
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text behind line {number}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: not one JSON object (JSON Lines): {error}"
            ) from error


def _document(path: Path) -> Iterator[json_stream.Entry]:
    with path.open(encoding="utf-8-sig") as file:
        try:
            begins = next((line.lstrip()[0] for line in file if line.strip()), "")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text ({error}).") from error
        file.seek(0)
        read = json_stream.read_array if begins == "[" else json_stream.read_object
        yield from read(path, file)


def _by_question(entries: Iterable[json_stream.Entry]) -> Iterator[json_stream.Entry]:
    """An entry per question, where a file has one per video."""
    for entry in entries:
        asked = entry.value
        if entry.key is None or not isinstance(asked, dict) or {*_ANSWER_KEYS} & asked.keys():
            yield entry
            continue
        for number, given in asked.items():
            yield json_stream.Entry(entry.line, f"{entry.key}_{number}", given)


def _checked(path: Path, entries: Iterable[json_stream.Entry]) -> Iterator[_Entry]:
    problems = list[Problem]()
    for entry in entries:
        place = f"line {entry.line}"
        question_id, given = _id_of(entry), _given_of(entry)
        if question_id is None:
            problems.append(Problem(place, f"has no {' or '.join(_ID_KEYS)}"))
        elif given is None:
            what = f"has no {' or '.join(_ANSWER_KEYS)} that is text or a whole number"
            problems.append(Problem(place, what))
        else:
            yield _Entry(place, question_id, given)
    if problems:
        raise SchemaError(str(path), problems)


def _id_of(entry: json_stream.Entry) -> str | None:
    if entry.key is not None:
        return entry.key
    fields = entry.value if isinstance(entry.value, dict) else {}
    found = next((fields[key] for key in _ID_KEYS if key in fields), None)
    if isinstance(found, bool) or not isinstance(found, str | int) or found == "":
        return None
    return str(found)


def _given_of(entry: json_stream.Entry) -> Given | None:
    found: object = entry.value
    if isinstance(found, dict):
        found = next((found[key] for key in _ANSWER_KEYS if key in found), None)
    elif entry.key is None:
        return None
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    return tidied(found) if isinstance(found, str) else found
