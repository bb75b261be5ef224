"""The sentence table: features by text, exactly as they were computed."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cache_schema import InputError, SchemaError, SentenceTable, read_sentences, write_sentences


def _table(**changes: object) -> SentenceTable:
    fields: dict[str, object] = {
        "texts": ("who?", "where is “it”?", ""),
        "features": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
        "encoder": "ViT-B-32",
        "weights_sha256": "0" * 64,
        "context_length": 77,
        "truncated": 1,
    }
    return SentenceTable(**{**fields, **changes})


def test_round_trip(tmp_path: Path) -> None:
    table = _table()
    write_sentences(tmp_path / "s.parquet", table)
    copy = read_sentences(tmp_path / "s.parquet")
    assert copy.texts == table.texts
    np.testing.assert_array_equal(copy.features, table.features)
    assert (copy.encoder, copy.weights_sha256) == (table.encoder, table.weights_sha256)
    assert (copy.context_length, copy.truncated, copy.dim) == (77, 1, 4)


def test_an_empty_table_keeps_its_width(tmp_path: Path) -> None:
    empty = _table(texts=(), features=np.empty((0, 4), np.float32))
    write_sentences(tmp_path / "s.parquet", empty)
    assert read_sentences(tmp_path / "s.parquet").features.shape == (0, 4)


def test_lookup_is_in_the_order_asked_with_repetitions() -> None:
    table = _table()
    found = table.lookup(["where is “it”?", "who?", "who?"])
    np.testing.assert_array_equal(found, table.features[[1, 0, 0]])
    assert table.lookup([]).shape == (0, 4)


def test_a_missing_text_is_named() -> None:
    with pytest.raises(InputError, match=r"1 of 2 sentences .* the first is 'why'"):
        _table().lookup(["who?", "why"])


@pytest.mark.parametrize(
    "changes",
    [
        {"texts": ("a", "a", "b")},
        {"texts": ("a",)},
        {"features": np.zeros((3, 4))},
        {"features": np.zeros((3, 0), np.float32)},
        {"features": np.full((3, 4), np.nan, np.float32)},
        {"context_length": 0},
        {"weights_sha256": "x"},
    ],
    ids=["repeat", "count", "dtype", "width", "nan", "context", "digest"],
)
def test_broken_tables_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(SchemaError):
        _table(**changes)


def test_metadata_are_needed(tmp_path: Path) -> None:
    write_sentences(tmp_path / "s.parquet", _table())
    bare = pq.read_table(tmp_path / "s.parquet").replace_schema_metadata(None)
    pq.write_table(bare, tmp_path / "s.parquet")
    with pytest.raises(SchemaError, match="metadata of sentence table"):
        read_sentences(tmp_path / "s.parquet")
