"""Tables of checked records: streamed to Parquet row by row, read whole, or opened column by column."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cache_schema.errors import InputError, Problem, SchemaError
from cache_schema.storage.durable_files import sync_folder, temporary_name
from cache_schema.tables.parquet_table import TABLE_KEY, read_table

RowT = TypeVar("RowT")

_CHECKED_KEY: Final = b"videodistill.rows-checked"
"""Schema metadata of a table whose every row was a valid record when it was written."""
_ROWS_PER_GROUP: Final = 65_536
_ROWS_PER_READ: Final = 8_192


@dataclass(frozen=True, kw_only=True, slots=True)
class TableForm(Generic[RowT]):
    """How one kind of record lies in a table."""

    kind: str
    """What the table holds: `questions`, `captions`, `clips`."""
    schema: pa.Schema
    """Its columns; the first is the record's id, unique in the table."""
    make: Callable[..., RowT]
    """Makes the record of a row's values, given by column; raises SchemaError if they break a rule."""
    nullable: tuple[str, ...] = ()
    """The columns in which a null has a meaning."""

    @property
    def key(self) -> str:
        """The column of unique ids."""
        return str(self.schema.names[0])


class RowStream(Generic[RowT]):
    """Writes a table of any length in little memory; it appears, whole, when the stream closes well.

    Records are taken to be valid, as their own constructors see to it; ids may not repeat.
    """

    def __init__(
        self, path: Path, form: TableForm[RowT], values: Callable[[RowT], tuple[object, ...]]
    ) -> None:
        """Args: `values` gives a record's values in the order of the form's columns."""
        self._path = path
        self._form = form
        self._values = values
        self._waiting: list[tuple[object, ...]] = []
        self._ids: set[object] = set()
        self._twice: dict[object, None] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = temporary_name(path)
        self._schema = form.schema.with_metadata(
            {TABLE_KEY: form.kind.encode(), _CHECKED_KEY: b"1"}
        )
        self._writer = pq.ParquetWriter(
            self._temporary, self._schema, compression="zstd", write_page_checksum=True
        )

    def __len__(self) -> int:
        """How many records were added."""
        return len(self._ids)

    def add(self, row: RowT) -> None:
        """Adds one record."""
        values = self._values(row)
        before = len(self._ids)
        self._ids.add(values[0])
        if len(self._ids) == before:
            self._twice[values[0]] = None
        self._waiting.append(values)
        if len(self._waiting) >= _ROWS_PER_GROUP:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Publishes the table, or removes what was written if the block failed.

        Raises:
            SchemaError: an id was added twice.
        """
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None:
                self._require_unique_ids()
                with self._temporary.open("rb") as written:
                    os.fsync(written.fileno())
                self._temporary.replace(self._path)
                sync_folder(self._path.parent)
        finally:
            self._temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = zip(*self._waiting, strict=True)
        arrays = [
            pa.array(column, field.type)
            for column, field in zip(columns, self._form.schema, strict=True)
        ]
        self._writer.write_table(pa.table(arrays, schema=self._schema))
        self._waiting = []

    def _require_unique_ids(self) -> None:
        problems = [
            Problem(self._form.key, f"{name!r} is there more than once") for name in self._twice
        ]
        if problems:
            raise SchemaError(f"{self._form.kind} table {self._path}", problems)


def attribute_values(form: TableForm[RowT]) -> Callable[[RowT], tuple[object, ...]]:
    """Takes a record's values from the attributes that bear the columns' names."""
    getter: Callable[[RowT], tuple[object, ...]] = attrgetter(*form.schema.names)
    return getter


def write_rows(path: Path, form: TableForm[RowT], rows: Iterable[RowT]) -> None:
    """Writes a table whose records have an attribute for every column.

    Raises:
        SchemaError: an id appears twice.
    """
    with RowStream(path, form, attribute_values(form)) as stream:
        for row in rows:
            stream.add(row)


def read_rows(path: Path, form: TableForm[RowT]) -> list[RowT]:
    """Reads a table whole and checks all of it.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema; carries every problem with its row.
    """
    table, _ = read_table(path, form.kind, form.schema, nullable=form.nullable)
    problems: list[Problem] = []
    rows = []
    for number, values in enumerate(table.to_pylist(), start=1):
        try:
            rows.append(form.make(**values))
        except SchemaError as error:
            place = f"row {number} ({values[form.key]!r})"
            problems.extend(Problem(f"{place}.{at}", what) for at, what in error.problems)
    problems.extend(_repeated(table.column(form.key), form.key))
    if problems:
        raise SchemaError(f"{form.kind} table {path}", problems)
    return rows


class RowTable(Sequence[RowT]):
    """The records of a table, made when they are asked for; columns are read when first used.

    Behaves as a sequence of records; `column` gives a column of all rows without making any.
    """

    def __init__(
        self,
        form: TableForm[RowT],
        read_column: Callable[[str], pa.ChunkedArray],
        rows: int,
    ) -> None:
        self.form = form
        self._read_column = read_column
        self._rows = rows
        self._columns: dict[str, pa.ChunkedArray] = {}

    def __len__(self) -> int:
        return self._rows

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows, as Arrow."""
        if name not in self._columns:
            self._columns[name] = self._read_column(name)
        return self._columns[name]

    def take(self, rows: npt.NDArray[np.int64]) -> Self:
        """The table of some rows, in the order given."""
        chosen = pa.array(rows)
        return type(self)(self.form, lambda name: self.column(name).take(chosen), len(rows))

    @overload
    def __getitem__(self, index: int) -> RowT: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> RowT | Self:
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(self._rows)))
        if not -self._rows <= index < self._rows:
            raise IndexError(index)
        place = index % self._rows
        return self.form.make(
            **{name: self.column(name)[place].as_py() for name in self.form.schema.names}
        )

    def __iter__(self) -> Iterator[RowT]:
        for start in range(0, self._rows, _ROWS_PER_READ):
            columns = [
                self.column(name).slice(start, _ROWS_PER_READ).to_pylist()
                for name in self.form.schema.names
            ]
            for values in zip(*columns, strict=True):
                yield self.form.make(**dict(zip(self.form.schema.names, values, strict=True)))


def open_columns(
    path: Path, form: TableForm[RowT]
) -> tuple[Callable[[str], pa.ChunkedArray], int] | None:
    """Opens a table that `RowStream` wrote without reading its rows.

    Returns:
        How to read a column, and the number of rows; None for a table of another program, whose
        rows nobody has checked.

    Raises:
        InputError: there is no such table, or it is not Parquet.
        SchemaError: the table holds something else.
    """
    try:
        file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError(f"There is no {form.kind} table at {path}.") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as a Parquet table: {error}") from error
    metadata = file.schema_arrow.metadata or {}
    kind = metadata.get(TABLE_KEY, form.kind.encode()).decode(errors="replace")
    if kind != form.kind:
        raise SchemaError(f"{form.kind} table {path}", [("", f"holds {kind}, not {form.kind}")])
    if metadata.get(_CHECKED_KEY) != b"1" or not file.schema_arrow.equals(form.schema):
        return None

    def read_column(name: str) -> pa.ChunkedArray:
        try:
            return file.read(columns=[name]).column(0)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"Column {name!r} of {path} cannot be read: {error}") from error

    return read_column, file.metadata.num_rows


def _repeated(ids: pa.ChunkedArray, key: str) -> list[Problem]:
    if pc.count_distinct(ids).as_py() == len(ids):
        return []
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for name in ids.to_pylist():
        if name in seen:
            twice[name] = None
        seen.add(name)
    return [Problem(key, f"{name!r} is there more than once") for name in twice]
