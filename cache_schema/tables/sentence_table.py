"""Frozen sentence features of a question set, computed once and looked up by text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cache_schema import field_rules
from cache_schema.errors import InputError, Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.tables.parquet_table import read_table, write_table

_KIND: Final = "sentences"
_SCHEMA: Final = pa.schema([("text", pa.string()), ("feature", pa.list_(pa.float32()))])
_RULES: Final[Mapping[str, Rule]] = {
    "encoder": field_rules.text(longest=200),
    "weights_sha256": field_rules.text(pattern="[0-9a-f]{64}"),
    "context_length": field_rules.integer(least=1),
    "truncated": field_rules.integer(),
    "dim": field_rules.integer(least=1),
}
_NUMBERS: Final = frozenset({"context_length", "truncated", "dim"})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SentenceTable:
    """Sentence features of one text encoder.

    Raises:
        SchemaError: texts repeat, or the features do not fit them or are not finite.
    """

    texts: tuple[str, ...]
    """The sentences, each once."""
    features: npt.NDArray[np.float32]
    """float32 [n, D]: one feature per sentence, in the order of ``texts``."""
    encoder: str
    """Name of the model whose text tower made the features."""
    weights_sha256: str
    """SHA-256 of its weights."""
    context_length: int
    """Number of tokens that the tower reads."""
    truncated: int
    """How many of the sentences were longer than that, and were cut."""
    _rows: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        problems = list(self._feature_problems()) or check_fields(_metadata(self), _RULES)
        if problems:
            raise SchemaError("sentence table", problems)
        rows = {text: row for row, text in enumerate(self.texts)}
        object.__setattr__(self, "_rows", rows)

    @property
    def dim(self) -> int:
        """Width D of a feature."""
        return int(self.features.shape[1])

    def lookup(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Returns the features of some sentences, float32 [len(texts), D].

        Raises:
            InputError: sentences are not in the table; names the first of them.
        """
        missing = [text for text in texts if text not in self._rows]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(texts)} sentences are not among the {len(self.texts)} of the "
                f"sentence table, the first is {missing[0]!r}. Encode the sentences of this question "
                f"table again."
            )
        return self.features[[self._rows[text] for text in texts]]

    def _feature_problems(self) -> Iterator[Problem]:
        shape = self.features.shape
        if self.features.ndim != 2 or shape[0] != len(self.texts) or shape[1] < 1:
            yield Problem("features", f"have shape {shape}, not ({len(self.texts)}, D)")
        if self.features.dtype != np.float32:
            yield Problem("features", f"are {self.features.dtype}, not float32")
        elif not np.isfinite(self.features).all():
            yield Problem("features", "are not all finite")
        if len(set(self.texts)) != len(self.texts):
            yield Problem("texts", "repeat")


def write_sentences(path: Path, table: SentenceTable) -> None:
    """Writes a sentence table as Parquet: ``text``, ``feature``, and the encoder as metadata."""
    flat = pa.array(np.ascontiguousarray(table.features).reshape(-1))
    feature = pa.FixedSizeListArray.from_arrays(flat, table.dim)
    columns = pa.table({"text": pa.array(table.texts, pa.string()), "feature": feature})
    metadata = {name: str(value) for name, value in _metadata(table).items()}
    write_table(path, columns, _KIND, metadata)


def read_sentences(path: Path) -> SentenceTable:
    """Reads what ``write_sentences`` wrote.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema; carries every problem.
    """
    table, written = read_table(path, _KIND, _SCHEMA)
    metadata: dict[str, str | int] = {
        name: int(value) if name in _NUMBERS and value.isdecimal() else value
        for name, value in written.items()
        if name in _RULES
    }
    problems = check_fields(metadata, _RULES)
    if problems:
        raise SchemaError(f"metadata of sentence table {path}", problems)
    dim = int(metadata.pop("dim"))
    feature = table.column("feature").combine_chunks()
    widths = set(pc.list_value_length(feature).to_pylist())
    if widths - {dim}:
        raise SchemaError(
            f"sentence table {path}", [("feature", f"has widths {widths}, not {dim}")]
        )
    flat = feature.flatten().to_numpy(zero_copy_only=False)
    return SentenceTable(
        texts=tuple(table.column("text").to_pylist()),
        features=flat.reshape(-1, dim),
        **metadata,  # type: ignore[arg-type]
    )


def _metadata(table: SentenceTable) -> dict[str, object]:
    return {
        "encoder": table.encoder,
        "weights_sha256": table.weights_sha256,
        "context_length": table.context_length,
        "truncated": table.truncated,
        "dim": table.dim,
    }
