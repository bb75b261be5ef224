"""The neutral table of captions: sentences that describe clips, for pretraining and retrieval."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from cache_schema import field_rules
from cache_schema.clip import clip_id_rule
from cache_schema.errors import SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.tables.question_table import Split, tags_rule
from cache_schema.tables.row_table import RowTable, TableForm, open_columns, read_rows, write_rows

_SCHEMA: Final = pa.schema(
    [
        ("caption_id", pa.string()),
        ("clip_id", pa.string()),
        ("text", pa.string()),
        ("split", pa.string()),
        ("tags", pa.list_(pa.string())),
    ]
)
_RULES: Final[Mapping[str, Rule]] = {
    "caption_id": field_rules.text(),
    "clip_id": clip_id_rule,
    "text": field_rules.text(longest=4000),
    "split": field_rules.one_of("train", "val", "test"),
    "tags": tags_rule,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """One sentence about one clip.

    In retrieval, the clips of a split's captions are the gallery, and a caption's own clip is the
    right one.

    Raises:
        SchemaError: a field breaks its rule; carries every problem.
    """

    caption_id: str
    """Unique name of the caption in its table."""
    clip_id: str
    """The clip described."""
    text: str
    """The sentence."""
    split: Split
    """Which part of the data set the caption belongs to."""
    tags: tuple[str, ...] = ()
    """Groups that results are reported by, as ``kind:value``."""

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in _RULES}
        problems = check_fields(values, _RULES)
        if problems:
            raise SchemaError(f"caption {self.caption_id!r}", problems)
        object.__setattr__(self, "tags", tuple(self.tags))


CAPTION_FORM: Final = TableForm(kind="captions", schema=_SCHEMA, make=Caption)


class CaptionTable(RowTable[Caption]):
    """A caption table that makes a caption only when it is asked for."""


def write_captions(path: Path, captions: Iterable[Caption]) -> None:
    """Writes a caption table.

    Raises:
        SchemaError: a caption id appears twice.
    """
    write_rows(path, CAPTION_FORM, captions)


def read_captions(path: Path) -> list[Caption]:
    """Reads a caption table, all of which is checked.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema; carries every problem with its row.
    """
    return read_rows(path, CAPTION_FORM)


def open_captions(path: Path) -> CaptionTable:
    """Opens a caption table of any length at once; one of another program is read and checked.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema.
    """
    opened = open_columns(path, CAPTION_FORM)
    if opened is not None:
        return CaptionTable(CAPTION_FORM, *opened)
    table = pa.Table.from_pylist(
        [{name: getattr(row, name) for name in _SCHEMA.names} for row in read_captions(path)],
        _SCHEMA,
    )
    return CaptionTable(CAPTION_FORM, table.column, table.num_rows)
