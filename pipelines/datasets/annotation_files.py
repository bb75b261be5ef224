"""The annotation files of one folder as records, read strictly: what is wrong is kept with its place."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TextIO, TypeVar

from cache_schema.errors import InputError, Problem, SchemaError
from pipelines.datasets import json_stream
from pipelines.datasets.record import Record

_KEPT_PROBLEMS: Final = 1000

MadeT = TypeVar("MadeT")


class _Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __next__(self) -> list[str]: ...


class AnnotationFiles:
    """A folder while its annotation files are read.

    Attributes:
        root: the folder.
        bad_rows: how many entries were refused; unless they are to be skipped, the first file that
            has any ends the reading with SchemaError.
        problems: what was wrong with them, the first thousand.
    """

    def __init__(self, root: Path, *, skip_bad_rows: bool = False) -> None:
        self.root = root
        self.bad_rows = 0
        self.problems: list[Problem] = []
        self._skip_bad_rows = skip_bad_rows
        self._bytes_before = 0
        self._file: TextIO | None = None

    @property
    def bytes_read(self) -> int:
        """How far the reading has come, over all files."""
        return self._bytes_before + (self._file.buffer.tell() if self._file else 0)

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

    def each(
        self, name: str, records: Iterable[Record], make: Callable[[Record], MadeT]
    ) -> Iterator[MadeT]:
        """What a file's entries become, for files that are no rows themselves; arguments as `rows`.

        Raises:
            SchemaError: entries were refused and are not to be skipped.
        """
        path = self.root / name
        for record in records:
            try:
                made = make(record)
            except SchemaError as error:
                self._refuse(path, record.place, error.problems)
                continue
            yield made
        if self.bad_rows and not self._skip_bad_rows:
            raise SchemaError(str(path), self.problems)

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

    def _refuse(self, path: Path, place: str, problems: Sequence[Problem]) -> None:
        self.bad_rows += 1
        if len(self.problems) < _KEPT_PROBLEMS:
            name = path.relative_to(self.root).as_posix()
            self.problems += [
                Problem(f"{name} {place}" + (f".{at}" if at else ""), what) for at, what in problems
            ]


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
