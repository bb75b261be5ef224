"""Small Parquet tables with a strict schema, as all tables between the stages are written and read."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cache_schema.errors import InputError, Problem, SchemaError
from cache_schema.storage.durable_files import replace_file

TABLE_KEY: Final = b"videodistill.table"
"""Schema metadata that names what a Parquet file holds."""


def encode_table(table: pa.Table, kind: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """Returns a table as the bytes of a Parquet file, with a checksum in every page.

    Args:
        table: the rows.
        kind: what the table holds, such as ``questions``; put into the schema's metadata.
        metadata: further entries of the schema's metadata.
    """
    entries = {key.encode(): value.encode() for key, value in (metadata or {}).items()}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({TABLE_KEY: kind.encode(), **entries}),
        sink,
        compression="zstd",
        write_page_checksum=True,
    )
    return bytes(sink.getvalue().to_pybytes())


def write_table(
    path: Path, table: pa.Table, kind: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a Parquet table durably, in place of an older one; arguments as ``encode_table``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, encode_table(table, kind, metadata))


def read_table(
    path: Path, kind: str, schema: pa.Schema, *, nullable: Collection[str] = ()
) -> tuple[pa.Table, dict[str, str]]:
    """Reads a Parquet table that has exactly the columns of a schema.

    Args:
        path: the file.
        kind: what the table must hold; a file that does not say what it holds is taken by its
            columns, so that other programs can write these tables too.
        schema: the columns expected; narrower number types and large strings are converted.
        nullable: the columns in which a null has a meaning; elsewhere it is an error.

    Returns:
        The rows and the schema's metadata.

    Raises:
        InputError: there is no such file, or it is not Parquet.
        SchemaError: the table holds something else, or other columns.
    """
    what = f"{kind} table {path}"
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise InputError(f"There is no {kind} table at {path}.") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as a Parquet table: {error}") from error
    metadata = {
        key.decode(): value.decode(errors="replace")
        for key, value in (table.schema.metadata or {}).items()
    }
    found_kind = metadata.get(TABLE_KEY.decode(), kind)
    if found_kind != kind:
        raise SchemaError(what, [("", f"holds {found_kind}, not {kind}")])
    problems = _column_problems(table.column_names, schema.names)
    if problems:
        raise SchemaError(what, problems)
    columns = []
    for field in schema:
        try:
            column = table.column(field.name).cast(field.type)
        except pa.ArrowException as error:
            problems.append(Problem(field.name, f"is not {field.type}: {error}"))
            continue
        if column.null_count and field.name not in nullable:
            problems.append(Problem(field.name, f"has {column.null_count} nulls"))
        columns.append(column)
    if problems:
        raise SchemaError(what, problems)
    return pa.table(columns, schema=schema), metadata


def _column_problems(found: Sequence[str], expected: Sequence[str]) -> list[Problem]:
    problems = [Problem(name, "is missing") for name in expected if name not in found]
    problems.extend(
        Problem(name, "is not a known column") for name in found if name not in expected
    )
    problems.extend(
        Problem(name, "is there twice")
        for name in sorted(set(found))
        if list(found).count(name) > 1
    )
    return problems
