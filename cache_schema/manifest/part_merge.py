"""Merging small parts of the manifest, so that a version has few and no row is copied often."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cache_schema.manifest.manifest_part import ManifestPart
from cache_schema.manifest.manifest_row import SCHEMA
from cache_schema.manifest.part_writer import ROW_GROUP, NewPart, PartWriter

SETTLED: Final = 2**19
"""Parts of so many rows are never merged again."""
LARGEST: Final = 2**20
"""When the parts that are not settled have so many rows, they become one part."""
FANOUT: Final = 4
"""So many parts of one size class are merged into one; a class is this many times the one before."""


def merge_from(rows: Sequence[int]) -> int:
    """Returns where the parts begin that are to be merged, ``len(rows)`` where none are.

    Only the newest parts may be merged, in one run: rows that moved past a part between them would
    count before it. A row is copied once for every size class, which is log4 of (a settled part's
    rows over a fold's) times.

    Args:
        rows: sizes of the parts, oldest first.
    """
    first = len(rows)
    while first and rows[first - 1] < SETTLED:
        first -= 1
    if sum(rows[first:]) >= LARGEST:
        return first
    classes = [_size_class(count) for count in rows]
    for size_class in sorted(set(classes[first:]), reverse=True):
        begin = len(rows)
        while begin > first and classes[begin - 1] <= size_class:
            begin -= 1
        if classes[begin:].count(size_class) >= FANOUT:
            return begin
    return len(rows)


def merge_parts(parts: Sequence[ManifestPart], new: pa.Table) -> NewPart:
    """Returns one part with the rows of several, each clip's newest.

    Row groups are streamed, so what is in memory is the ids, the new rows and the encoded part.

    Args:
        parts: the parts to be merged, oldest first.
        new: rows that are newer than all of them, in the order of their ids.
    """
    ids = [part.table(["clip_id"]).column("clip_id") for part in parts]
    ids.append(new.column("clip_id"))
    source, row = _newest_rows(ids)
    writer = PartWriter()
    for start in range(0, len(row), ROW_GROUP):
        some = slice(start, start + ROW_GROUP)
        pieces, places = [], []
        for number in np.unique(source[some]).tolist():
            place = np.flatnonzero(source[some] == number)
            wanted = row[some][place]
            pieces.append(
                parts[number].rows(wanted, SCHEMA.names)
                if number < len(parts)
                else new.take(pa.array(wanted))
            )
            places.append(place)
        order = np.argsort(np.concatenate(places))
        writer.write(pa.concat_tables(pieces).take(pa.array(order)))
    return writer.finish()


def _newest_rows(
    ids: Sequence[pa.ChunkedArray],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Returns, in the order of ids, the table and the row where each id stands last."""
    lengths = [len(column) for column in ids]
    table = pa.table(
        {
            "clip_id": pa.chunked_array([chunk for column in ids for chunk in column.chunks]),
            "source": np.repeat(np.arange(len(ids)), lengths),
            "row": np.concatenate([np.arange(length) for length in lengths]),
        }
    )
    table = table.sort_by([("clip_id", "ascending"), ("source", "descending")])
    clip_id = table.column("clip_id").combine_chunks()
    first = np.ones(len(clip_id), np.bool_)
    first[1:] = pc.not_equal(clip_id[1:], clip_id[:-1]).to_numpy(zero_copy_only=False)
    return table.column("source").to_numpy()[first], table.column("row").to_numpy()[first]


def _size_class(rows: int) -> int:
    return (rows.bit_length() - 1) // (FANOUT.bit_length() - 1)
