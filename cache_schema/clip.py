"""A clip, the unit of caching, and the CSV lists in which clips are handed around."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from cache_schema import field_rules
from cache_schema.errors import InputError, Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.storage.durable_files import replace_file

CLIP_COLUMNS: Final = ("clip_id", "path", "start_s", "end_s")

clip_id_rule: Final[Rule] = field_rules.text(longest=512)
"""An id is one non-empty printable line; it never becomes a file name."""

_RULES: Final[Mapping[str, Rule]] = {
    "clip_id": clip_id_rule,
    "start_s": field_rules.optional(field_rules.number(least=0.0)),
    "end_s": field_rules.optional(field_rules.number(above=0.0)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A stretch of a video file; without bounds, the whole of it.

    Raises:
        SchemaError: the id is empty or unprintable, or the bounds are not finite and in order.
    """

    clip_id: str
    """Unique name of the clip in its data set."""
    path: Path
    """The video file."""
    start_s: float | None = None
    """Begin in seconds from the file's start; None for the file's start."""
    end_s: float | None = None
    """End in seconds from the file's start, not included; None for the file's end."""

    def __post_init__(self) -> None:
        values = {"clip_id": self.clip_id, "start_s": self.start_s, "end_s": self.end_s}
        problems = check_fields(values, _RULES)
        bounded = not problems and self.start_s is not None and self.end_s is not None
        if bounded and self.start_s >= self.end_s:  # type: ignore[operator]
            problems.append(Problem("end_s", f"is {self.end_s}, not after start_s {self.start_s}"))
        if problems:
            raise SchemaError(f"clip {self.clip_id!r}", problems)


def read_clips(path: Path, root: Path) -> list[Clip]:
    """Reads a list of clips from a CSV with the columns ``clip_id,path,start_s,end_s``.

    Args:
        path: the CSV, in UTF-8; an empty bound means none.
        root: folder that the list's file paths are relative to.

    Raises:
        InputError: the CSV is missing or is not UTF-8 text.
        SchemaError: rows are broken, an id appears twice, or a path leaves ``root``; carries
            every problem with its row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no clip list at {path}.") from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"Clip list {path} is not UTF-8 text ({error}); save it as UTF-8."
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    problems: list[Problem] = []
    clips: list[Clip] = []
    first_row: dict[str, int] = {}
    try:
        header = next(reader, [])
        if tuple(header) != CLIP_COLUMNS:
            found = ",".join(header)
            problems.append(Problem("header", f"is {found!r}, not {','.join(CLIP_COLUMNS)!r}"))
            raise SchemaError(f"clip list {path}", problems)
        for number, row in enumerate(reader, start=1):
            try:
                clip = _clip_of_row(row, root)
            except SchemaError as error:
                problems.extend(Problem(f"row {number}.{at}", what) for at, what in error.problems)
                continue
            if clip.clip_id in first_row:
                what = f"is {clip.clip_id!r}, already in row {first_row[clip.clip_id]}"
                problems.append(Problem(f"row {number}.clip_id", what))
            first_row.setdefault(clip.clip_id, number)
            clips.append(clip)
    except csv.Error as error:
        problems.append(Problem(f"line {reader.line_num}", f"is not CSV: {error}"))
    if problems:
        raise SchemaError(f"clip list {path}", problems)
    return clips


def write_clips(path: Path, clips: Iterable[Clip], root: Path) -> None:
    """Writes the list that ``read_clips`` reads, with file paths relative to ``root``.

    Raises:
        SchemaError: an id appears twice, or a clip's file is not under ``root``.
    """
    problems: list[Problem] = []
    seen: set[str] = set()
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CLIP_COLUMNS)
    for number, clip in enumerate(clips, start=1):
        if clip.clip_id in seen:
            problems.append(Problem(f"row {number}.clip_id", f"is {clip.clip_id!r} a second time"))
        seen.add(clip.clip_id)
        try:
            relative = clip.path.relative_to(root).as_posix()
        except ValueError:
            relative = clip.path.as_posix()
        if (problem := escape_problem(relative)) is not None:
            problems.append(Problem(f"row {number}.path", problem))
        bounds = [
            "" if bound is None else repr(float(bound)) for bound in (clip.start_s, clip.end_s)
        ]
        writer.writerow([clip.clip_id, relative, *bounds])
    if problems:
        raise SchemaError(f"clip list {path}", problems)
    replace_file(path, buffer.getvalue().encode("utf-8"))


def escape_problem(relative: str) -> str | None:
    """Returns why a relative path could lead out of its root, or None when it cannot.

    The check is on the words of the path: a link inside the root was put there by the root's
    owner, and may lead where its owner wants.
    """
    if not relative:
        return "is empty"
    if (character := field_rules.unprintable(relative)) is not None:
        return f"contains the unprintable character {character}"
    absolute = PurePosixPath(relative).is_absolute() or PureWindowsPath(relative).anchor
    if absolute:
        return f"is {relative!r}, an absolute path; give it relative to the root folder"
    if ".." in PurePosixPath(relative).parts or ".." in PureWindowsPath(relative).parts:
        return f"is {relative!r}, which leaves the root folder"
    return None


def _clip_of_row(row: list[str], root: Path) -> Clip:
    if len(row) != len(CLIP_COLUMNS):
        raise SchemaError("row", [("fields", f"are {len(row)}, not {len(CLIP_COLUMNS)}")])
    clip_id, relative, start, end = row
    problems = []
    if (escape := escape_problem(relative)) is not None:
        problems.append(Problem("path", escape))
    bounds: dict[str, float | None] = {}
    for name, written in (("start_s", start), ("end_s", end)):
        try:
            bounds[name] = float(written) if written else None
        except ValueError:
            problems.append(Problem(name, f"is {written!r}, not a number of seconds"))
            bounds[name] = None
    try:
        clip = Clip(clip_id=clip_id, path=root / relative, **bounds)
    except SchemaError as error:
        problems.extend(error.problems)
    if problems:
        raise SchemaError("row", problems)
    return clip
