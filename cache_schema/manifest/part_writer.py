"""Writing a part of the manifest: rows in, a Parquet file and its index out, then both stored."""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cache_schema.manifest.manifest_row import SCHEMA
from cache_schema.manifest.part_entry import PartEntry, index_key, parquet_key
from cache_schema.manifest.part_index import ENTRY, REPLACES, IndexSizes, encode_index, hash_ids
from cache_schema.outcome import Status
from cache_schema.storage.storage import Storage

ROW_GROUP: Final = 4096
"""Rows of a row group: what is decoded to tell one clip's outcome."""

# Ids and frame numbers ascend, so their differences are small; digests are noise, for which neither a
# dictionary nor differences help. Frame times repeat over the clips of a data set.
_ENCODINGS: Final = {
    "clip_id": "DELTA_BYTE_ARRAY",
    "frame_index.list.element": "DELTA_BINARY_PACKED",
    "source_digest": "PLAIN",
    "patch_digest": "PLAIN",
    "committed": "DELTA_BINARY_PACKED",
}
_DICTIONARIES: Final = [
    column
    for column in (*SCHEMA.names, "frame_time.list.element", "flags.list.element")
    if column not in _ENCODINGS
]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewPart:
    """A part that is not stored yet."""

    entry: PartEntry
    parquet: pa.Buffer
    index: bytearray

    def store(self, storage: Storage) -> None:
        """Stores both files; they belong to no version until a record names them."""
        storage.create(parquet_key(self.entry.name), memoryview(self.parquet), sync_name=False)
        storage.create(index_key(self.entry.name), memoryview(self.index))


class PartWriter:
    """Takes rows in the order of their ids, batch by batch, and makes a part of them.

    What it keeps in memory is the encoded file and 32 bytes a row.
    """

    def __init__(self) -> None:
        self._name = secrets.token_bytes(16)
        self._sink = pa.BufferOutputStream()
        self._parquet = pq.ParquetWriter(
            self._sink,
            SCHEMA,
            compression="zstd",
            use_dictionary=_DICTIONARIES,
            column_encoding=_ENCODINGS,
            write_statistics=["clip_id"],
            write_page_checksum=True,
        )
        self._entries: list[np.ndarray] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Adds rows whose ids come after all before; whole row groups but in the last call."""
        entries = part_entries(table, self._rows)
        self._entries.append(entries)
        self._rows += len(entries)
        self._parquet.write_table(table, row_group_size=ROW_GROUP)

    def finish(self) -> NewPart:
        """Returns the part; at least one row must have been written."""
        self._parquet.close()
        parquet = self._sink.getvalue()
        entries = np.concatenate(self._entries)
        index = encode_index(entries, self._name, memoryview(parquet))
        head = memoryview(index)[: IndexSizes(self._rows, parquet.size).head_bytes]
        entry = PartEntry(
            name=self._name.hex(),
            rows=self._rows,
            ok=int((entries["place"] >= 0).sum()),
            bytes=parquet.size,
            digest=_digest(parquet),
            index_digest=_digest(index),
            head_digest=_digest(head),
        )
        return NewPart(entry=entry, parquet=parquet, index=index)


def part_entries(table: pa.Table, first_row: int) -> np.ndarray:
    """Returns what the index says of some rows of a part, ``ENTRY`` [rows].

    Args:
        table: the rows; of ``SCHEMA`` at least clip_id, status, segment, block, slot, replaces.
        first_row: number of the first one in the part.
    """
    entries = np.zeros(table.num_rows, ENTRY)
    entries["high"], entries["low"] = hash_ids(table.column("clip_id").to_pylist())
    entries["segment"] = table.column("segment").to_numpy()
    ok = pc.equal(table.column("status"), Status.OK).to_numpy()
    slot, block = table.column("slot").to_numpy(), table.column("block").to_numpy()
    entries["place"] = np.where(ok, slot, -1 - block)
    entries["row"] = first_row + np.arange(table.num_rows)
    entries["flags"] = np.where(table.column("replaces").to_numpy(), REPLACES, 0)
    return entries


def _digest(content: pa.Buffer | bytearray | memoryview) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
