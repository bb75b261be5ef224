"""The annotation files of one data set, read strictly: what is wrong is collected with its place."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final, Protocol, TextIO, TypeVar

from cache_schema import Caption, Clip, Question
from cache_schema.errors import InputError, Problem, SchemaError
from cache_schema.field_rules import unprintable
from pipelines.datasets import json_stream
from pipelines.datasets.record import Record

_KEPT_PROBLEMS: Final = 1000
_LONGEST_FILE_NAME: Final = 255
_LINE_BITS: Final = 40
_LINE_MASK: Final = (1 << _LINE_BITS) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Where in its clip a question's answer shows; for evaluation only."""

    question_id: str
    spans: tuple[tuple[float, float], ...]
    """Start and end in seconds."""


class _Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __next__(self) -> list[str]: ...


MadeT = TypeVar("MadeT")

Row = Clip | Question | Caption | Evidence
"""What the entries of annotation files become."""


class SourceFolder:
    """A data set's folder while its annotation files are read.

    Attributes:
        root: the folder.
        bad_rows: how many entries were refused; without `skip_bad_rows` the first file that has any
            ends the reading with SchemaError.
        problems: what was wrong with them, the first thousand.
        noted: what the adapter did to entries by rule, and how often: `left out: no caption`.
    """

    def __init__(self, root: Path, *, skip_bad_rows: bool = False) -> None:
        self.root = root
        self.bad_rows = 0
        self.problems: list[Problem] = []
        self.noted: Counter[str] = Counter()
        self._bytes_before = 0
        self._file: TextIO | None = None
        self._skip_bad_rows = skip_bad_rows
        self._clips: dict[str, int] = {}
        # Of the entry being read: forgotten if it is refused, so that the next one brings them.
        self._new_clips: list[str] = []
        self._names: list[str] = []
        # Id -> file number and line: a number takes a quarter of a text's memory.
        self._places: dict[type, dict[str, int]] = {Question: {}, Caption: {}}

    @property
    def bytes_read(self) -> int:
        """How far the reading has come, over all files."""
        return self._bytes_before + (self._file.buffer.tell() if self._file else 0)

    def require_usable(self, rows: int) -> None:
        """Refuse a data set of which nothing is left to ask about.

        Raises:
            SchemaError: all rows were refused.
            InputError: there were none.
        """
        if rows:
            return
        if self.problems:
            raise SchemaError(f"{self.root}: 0 usable rows; the data", self.problems)
        raise InputError(f"The annotation files in {self.root} hold 0 usable rows.")

    def exists(self, name: str) -> bool:
        """Whether an optional annotation file is there."""
        return (self.root / name).is_file()

    def read_as(self, name: str) -> Path:
        """The path of an annotation file that an adapter reads in its own way.

        Raises:
            InputError: there is no such file.
        """
        path = self.root / name
        if not path.is_file():
            raise InputError(f"There is no annotation file {path}.")
        return path

    def exists_any(self, pattern: str) -> bool:
        """Whether an annotation file matches a pattern."""
        return any(self.root.glob(pattern))

    def matching(self, pattern: str) -> list[str]:
        """Names of the annotation files that match a pattern, in order.

        Raises:
            InputError: there is none.
        """
        names = sorted(p.relative_to(self.root).as_posix() for p in self.root.glob(pattern))
        if not names:
            raise InputError(f"There is no annotation file {self.root / pattern}.")
        return names

    def rows(
        self, name: str, records: Iterable[Record], make: Callable[[Record], Iterable[Row]]
    ) -> Iterator[Row]:
        """The rows that a file's entries become; entries that break a rule become problems.

        Args:
            name: the file that the entries are of.
            records: the entries.
            make: makes the rows of one entry; an entry counts whole or not at all.

        Raises:
            SchemaError: entries were refused and are not to be skipped.
        """

        def checked(record: Record) -> tuple[Row, ...]:
            made = tuple(make(record))
            for row in made:
                self._require_new(row, record, name)
            return made

        for made in self.each(name, records, checked):
            yield from made

    def each(
        self, name: str, records: Iterable[Record], make: Callable[[Record], MadeT]
    ) -> Iterator[MadeT]:
        """What a file's entries become, for files that are no rows themselves; arguments as `rows`.

        Raises:
            SchemaError: entries were refused and are not to be skipped.
        """
        path = self.root / name
        for record in records:
            self._new_clips.clear()
            try:
                made = make(record)
            except SchemaError as error:
                for clip_id in self._new_clips:
                    del self._clips[clip_id]
                self._refuse(path, record.place, error.problems)
                continue
            yield made
        if self.bad_rows and not self._skip_bad_rows:
            raise SchemaError(str(path), self.problems)

    def clip(
        self,
        clip_id: str,
        *parts: str,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> tuple[Clip, ...]:
        """The clip of a video file, the first time that it is met; nothing after that.

        Args:
            clip_id: its name.
            parts: folder names and the file's name, below the data set's folder; each must be a
                plain name, so that no id can lead out of the folder.
            start_s: where it begins in the file.
            end_s: where it ends.

        Raises:
            SchemaError: a part is no file name, the bounds are not in order, or the id was given to
                another clip before.
        """
        fingerprint = hash((parts, start_s, end_s))
        known = self._clips.get(clip_id)
        if known is None:
            for part in parts:
                if (problem := file_name_problem(part)) is not None:
                    raise SchemaError(f"clip {clip_id!r}", [Problem("video", problem)])
            made = Clip(
                clip_id=clip_id, path=self.root.joinpath(*parts), start_s=start_s, end_s=end_s
            )
            self._clips[clip_id] = fingerprint
            self._new_clips.append(clip_id)
            return (made,)
        if known != fingerprint:
            what = f"{clip_id!r} stands for two different clips"
            raise SchemaError(f"clip {clip_id!r}", [Problem("clip_id", what)])
        return ()

    def has_clip(self, clip_id: str) -> bool:
        """Whether a clip of that name was met."""
        return clip_id in self._clips

    def json_object(self, name: str) -> Iterator[Record]:
        """The entries of a file that is one JSON object of objects."""
        return self._json(name, json_stream.read_object)

    def json_values(self, name: str) -> dict[str, str]:
        """A small file that is one JSON object of texts and whole numbers; the values as text."""
        path = self.root / name
        with self._opened(name) as file:
            entries = json_stream.read_object(path, file)
            records = (Record(line, key, {"value": value}) for line, key, value in entries)
            return dict(self.each(name, records, lambda r: (str(r.key), r.name("value"))))

    def json_member(self, name: str, member: str) -> Iterator[Record]:
        """The objects of the array that is one member of a file's JSON object."""
        with self._opened(name) as file:
            for line, key, value in json_stream.read_object(self.root / name, file):
                if key == member:
                    yield from Record(line, None, {member: value}).records(member)

    def json_array(self, name: str) -> Iterator[Record]:
        """The entries of a file that is one JSON array of objects."""
        return self._json(name, json_stream.read_array)

    def json_lines(self, name: str) -> Iterator[Record]:
        """The lines of a file with one JSON object a line; blank lines are passed over."""
        decode = json_stream.strict_decoder().decode
        path = self.root / name
        for number, line in self.text_lines(name):
            if number == 1 and line.lstrip().startswith("["):
                raise InputError(
                    f"{path} is a JSON array; one object a line is expected (JSON Lines)."
                )
            try:
                value = decode(line)
            except json.JSONDecodeError as error:
                what = f"is not JSON: {error.msg} at column {error.pos + 1}"
                self._refuse(path, f"line {number}", [Problem("", what)])
            except (ValueError, RecursionError) as error:
                self._refuse(path, f"line {number}", [Problem("", f"is not JSON: {error}")])
            else:
                yield from self._object(path, number, None, value)

    def text_lines(self, name: str) -> Iterator[tuple[int, str]]:
        """Number and text of every line that is not blank."""
        path = self.root / name
        with self._opened(name) as file:
            try:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, line.rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error) from error

    def table(
        self, name: str, columns: Sequence[str], *, separator: str = ",", header: bool = True
    ) -> Iterator[Record]:
        """The rows of a table in text; every field is text.

        Args:
            name: the file.
            columns: those that must be there, in any order; without a header, all, in theirs.
            separator: what stands between fields, as the data set's owners declare it.
            header: whether the first line names the columns.

        Raises:
            InputError: there is no such file, it is no such table, or columns are absent.
        """
        path = self.root / name
        with self._opened(name, newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            names = list(columns)
            if header:
                names = next(self._fields(path, reader), [])
                _require_columns(path, names, columns, separator)
            for fields in self._fields(path, reader):
                if fields and len(fields) != len(names):
                    what = f"has {len(fields)} fields, not {len(names)}"
                    self._refuse(path, f"line {reader.line_num}", [Problem("", what)])
                elif fields:
                    yield Record(reader.line_num, None, dict(zip(names, fields, strict=True)))

    def _fields(self, path: Path, reader: "_Reader") -> Iterator[list[str]]:
        """The rows of a table in text; a row that is no row of its kind becomes a problem."""
        while True:
            try:
                yield next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._refuse(path, f"line {reader.line_num}", [Problem("", str(error))])
            except UnicodeDecodeError as error:
                raise _not_utf8(path, error) from error

    def _json(
        self, name: str, read: Callable[[Path, TextIO], Iterator[json_stream.Entry]]
    ) -> Iterator[Record]:
        path = self.root / name
        with self._opened(name) as file:
            for line, key, value in read(path, file):
                yield from self._object(path, line, key, value)

    def _object(self, path: Path, line: int, key: str | None, value: object) -> Iterator[Record]:
        if isinstance(value, dict):
            yield Record(line, key, value)
        else:
            what = f"is {type(value).__name__}, not an object"
            self._refuse(path, Record(line, key, {}).place, [Problem("", what)])

    @contextmanager
    def _opened(self, name: str, newline: str | None = None) -> Iterator[TextIO]:
        path = self.root / name
        try:
            file = path.open(encoding="utf-8-sig", newline=newline)
        except FileNotFoundError:
            raise InputError(f"There is no annotation file {path}.") from None
        with file:
            self._file = file
            yield file
            self._file = None
        self._bytes_before += path.stat().st_size

    def _require_new(self, row: Row, record: Record, name: str) -> None:
        """Refuse a question or caption whose id was there before, naming both places."""
        if isinstance(row, Clip | Evidence):
            return
        row_id = row.question_id if isinstance(row, Question) else row.caption_id
        place = self._number(name) << _LINE_BITS | record.line
        first = self._places[type(row)].setdefault(row_id, place)
        if first is not place:
            file, line = self._names[first >> _LINE_BITS], first & _LINE_MASK
            raise SchemaError(
                name, [Problem("id", f"{row_id!r} is there already: {file} line {line}")]
            )

    def _number(self, name: str) -> int:
        if not self._names or self._names[-1] != name:
            self._names.append(name)
        return len(self._names) - 1

    def _refuse(self, path: Path, place: str, problems: Sequence[Problem]) -> None:
        self.bad_rows += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            name = path.relative_to(self.root).as_posix()
            self.problems += [
                Problem(f"{name} {place}" + (f".{at}" if at else ""), what) for at, what in problems
            ]


def file_name_problem(part: str) -> str | None:
    """Why a text cannot be the name of one file or folder, or None when it can."""
    if part in {"", ".", ".."}:
        return f"{part!r} is no file name"
    if "/" in part or "\\" in part or PureWindowsPath(part).drive:
        return f"{part!r} is a path, not a file name"
    if (character := unprintable(part)) is not None:
        return f"a file name contains the unprintable character {character}"
    if len(part.encode()) > _LONGEST_FILE_NAME:
        return f"a file name has {len(part.encode())} bytes, more than {_LONGEST_FILE_NAME}"
    return None


def _require_columns(
    path: Path, found: Sequence[str], wanted: Sequence[str], separator: str
) -> None:
    missing = [name for name in wanted if name not in found]
    twice = sorted({name for name in found if list(found).count(name) > 1})
    if not missing and not twice:
        return
    what = f"lacks the columns {', '.join(missing)}" if missing else f"has {twice} more than once"
    other = next((s for s in "\t;," if len(found) == 1 and s != separator and s in found[0]), None)
    hint = (
        f" Its fields seem to be separated by {other!r}; this data set's owners use {separator!r}."
        if other
        else ""
    )
    raise InputError(
        f"{path} {what}; its first line has: {', '.join(map(repr, found)) or 'nothing'}.{hint}"
    )


def _not_utf8(path: Path, error: UnicodeDecodeError) -> InputError:
    return InputError(f"{path} is not UTF-8 text ({error}); save it as UTF-8.")
