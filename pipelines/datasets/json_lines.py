"""Reads JSON Lines annotation files whose content is not to be trusted."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from cache_schema.errors import InputError, Problem, SchemaError


def read_rows(path: Path, required: Mapping[str, type]) -> Iterator[dict[str, object]]:
    """Every object of a JSON Lines file; blank lines and a byte order mark are accepted.

    Args:
        path: The file, UTF-8.
        required: Keys that every object must have, and the type of each value.

    Raises:
        InputError: There is no such file, or it is not UTF-8.
        SchemaError: Lines are not JSON objects or lack keys; carries every problem with its line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no annotation file {path}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error}).") from error
    rows, problems = list[dict[str, object]](), list[Problem]()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem(f"line {number}", f"is not JSON: {error}"))
            continue
        wrong = _wrong_keys(row, required)
        problems.extend(Problem(f"line {number}", what) for what in wrong)
        if not wrong:
            rows.append(row)
    if problems:
        raise SchemaError(str(path), problems)
    yield from rows


def _wrong_keys(row: object, required: Mapping[str, type]) -> list[str]:
    if not isinstance(row, dict):
        return [f"is {type(row).__name__}, not an object"]
    missing = [f"lacks {key!r}" for key in required if key not in row]
    return missing + [
        f"{key!r} is {type(row[key]).__name__}, not {kind.__name__}"
        for key, kind in required.items()
        if key in row and not isinstance(row[key], kind)
    ]
