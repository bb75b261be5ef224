"""Clip lists as Parquet, for data sets whose clips are too many for a CSV; paths are relative."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa

from cache_schema.clip import Clip, escape_problem
from cache_schema.errors import Problem, SchemaError
from cache_schema.tables.row_table import TableForm, read_rows

_SCHEMA: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("path", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
    ]
)


def clip_form(root: Path) -> TableForm[Clip]:
    """The form of a clip table whose paths are relative to a folder; an absent bound is null."""

    def make(*, clip_id: str, path: str, start_s: float | None, end_s: float | None) -> Clip:
        if (problem := escape_problem(path)) is not None:
            raise SchemaError(f"clip {clip_id!r}", [Problem("path", problem)])
        return Clip(clip_id=clip_id, path=root / path, start_s=start_s, end_s=end_s)

    return TableForm(kind="clips", schema=_SCHEMA, make=make, nullable=("start_s", "end_s"))


def clip_values(root: Path) -> Callable[[Clip], tuple[object, ...]]:
    """How a clip under a folder becomes a row; ValueError for one that lies elsewhere."""

    def values(clip: Clip) -> tuple[object, ...]:
        relative = clip.path.relative_to(root).as_posix()
        return (clip.clip_id, relative, clip.start_s, clip.end_s)

    return values


def read_clip_table(path: Path, root: Path) -> list[Clip]:
    """Reads a clip table.

    Args:
        path: the Parquet file.
        root: folder that its paths are relative to.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema, or a path leaves ``root``.
    """
    return read_rows(path, clip_form(root))
