"""Reading one part of the manifest: rows by clip id or by number, every byte checked."""

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Final, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cache_schema.errors import CorruptStore, StoreUnreachable
from cache_schema.manifest.checked_file import CheckedFile
from cache_schema.manifest.manifest_row import SCHEMA, empty_table
from cache_schema.manifest.part_entry import PartEntry
from cache_schema.manifest.part_index import (
    ENTRY,
    PAGE_BYTES,
    IndexHead,
    IndexSizes,
    Keys,
    decode_head,
    decode_pages,
    find_entries,
    pages_wanted,
)
from cache_schema.storage.storage import Storage

# So many sorted keys at a time keep the pages of a part in tens of megabytes.
_KEYS_AT_ONCE: Final = 16384


class ManifestPart:
    """One part: what is kept in memory is its index's head, once something is looked up.

    Args:
        storage: where the store lies.
        entry: what the version's record says of the part.
    """

    def __init__(self, storage: Storage, entry: PartEntry) -> None:
        self.entry = entry
        self._storage = storage
        self.sizes = IndexSizes(entry.rows, entry.bytes)
        self._name = bytes.fromhex(entry.name)
        self._parquet_key, self._index_key = entry.keys

    def find(self, high: Keys, low: Keys) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.void]]:
        """Looks keys up.

        Args:
            high: uint64 [n], upper halves of the keys, ascending.
            low: uint64 [n], lower halves.

        Returns:
            bool [n], which keys have a row here, and their ``ENTRY`` [n].

        Raises:
            CorruptStore: the index is missing or damaged.
        """
        found, entries = np.zeros(len(high), np.bool_), np.zeros(len(high), ENTRY)
        for start in range(0, len(high), _KEYS_AT_ONCE):
            some = slice(start, start + _KEYS_AT_ONCE)
            pages = pages_wanted(self.head, high[some], low[some]).tolist()
            if pages:
                found[some], entries[some] = find_entries(self.pages(pages), high[some], low[some])
        return found, entries

    def pages(self, numbers: Sequence[int]) -> npt.NDArray[np.void]:
        """Reads pages of the index, each compared with its checksum.

        Raises:
            CorruptStore: the index is missing or damaged.
        """
        start = self.sizes.head_bytes
        pieces = self._read(
            self._index_key,
            [
                (start + first * PAGE_BYTES, (last - first) * PAGE_BYTES)
                for first, last in _runs(numbers)
            ],
        )
        try:
            return decode_pages(pieces, numbers, self.sizes, self._name)
        except ValueError as error:
            self._fail(self._index_key, str(error))

    @cached_property
    def head(self) -> IndexHead:
        """The head of the index, compared with the digest in the version's record."""
        (content,) = self._read(self._index_key, [(0, self.sizes.head_bytes)])
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        if digest != self.entry.head_digest:
            self._fail(self._index_key, "its head is not what the version's record tells")
        try:
            return decode_head(content, self.sizes, self._name)
        except ValueError as error:
            self._fail(self._index_key, str(error))

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Reads columns of all rows, in the order of their ids.

        Raises:
            CorruptStore: the part is missing or damaged.
        """
        return self.row_groups(range(self.metadata.num_row_groups), columns)

    def rows(self, numbers: npt.NDArray[np.int64], columns: Sequence[str]) -> pa.Table:
        """Reads columns of some rows, in the order asked for.

        Raises:
            CorruptStore: the part is missing or damaged.
        """
        group = np.searchsorted(self.first_rows, numbers, side="right") - 1
        names = tuple(columns)
        tables, places = [empty_table(names)], [np.zeros(0, np.int64)]
        # One group at a time: rows asked for at random are in all of them.
        for number in np.unique(group).tolist():
            place = np.flatnonzero(group == number)
            wanted = pa.array(numbers[place] - self.first_rows[number])
            tables.append(self._recent(number, names).take(wanted))
            places.append(place)
        return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places))))

    def row_groups(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Reads columns of some row groups.

        Raises:
            CorruptStore: the part is missing or damaged.
        """
        try:
            # One read for all columns: each would be a request to an object store.
            file = pq.ParquetFile(self._file(), metadata=self.metadata, pre_buffer=True)
            # Threads would keep memory of their own, and a row group is too small for them.
            table = file.read_row_groups(
                list(groups), columns=list(columns), use_threads=len(groups) > 1
            )
            return table.select(columns).cast(pa.schema([SCHEMA.field(name) for name in columns]))
        except StoreUnreachable:
            raise
        except (pa.ArrowException, OSError, KeyError) as error:
            self._fail(self._parquet_key, str(error))

    @cached_property
    def metadata(self) -> pq.FileMetaData:
        """The footer of the Parquet file."""
        try:
            metadata = pq.read_metadata(self._file())
        except StoreUnreachable:
            raise
        except (pa.ArrowException, OSError) as error:
            self._fail(self._parquet_key, str(error))
        if metadata.num_rows != self.entry.rows:
            self._fail(self._parquet_key, f"it has {metadata.num_rows} rows, not {self.entry.rows}")
        return metadata

    @cached_property
    def first_rows(self) -> npt.NDArray[np.int64]:
        """int64 [row groups]: number of the first row of each."""
        groups = range(self.metadata.num_row_groups)
        counts = [self.metadata.row_group(group).num_rows for group in groups]
        return np.cumsum([0, *counts[:-1]])

    @cached_property
    def _recent(self) -> Callable[[int, tuple[str, ...]], pa.Table]:
        # Rows are asked for in the order of their ids, one by one or a row group's worth at a time.
        return lru_cache(maxsize=1)(lambda group, columns: self.row_groups([group], columns))

    def _file(self) -> CheckedFile:
        return CheckedFile(
            self._storage, self._parquet_key, self.entry.bytes, self.head.block_checksums
        )

    def _read(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        try:
            return self._storage.read_ranges(key, ranges)
        except FileNotFoundError:
            self._fail(key, "is missing")

    def _fail(self, key: str, what: str) -> NoReturn:
        file = self._storage.name(key)
        raise CorruptStore(
            f"{file}, a part of the manifest, is damaged: {what}. Restore it from a backup, or make "
            f"the manifest anew from the commits.",
            file=file,
        )


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Cuts ascending numbers into runs [first, last + 1)."""
    values = np.asarray(numbers)
    breaks = np.flatnonzero(np.diff(values) != 1) + 1
    firsts = np.concatenate([values[:1], values[breaks]]).tolist()
    lasts = np.concatenate([values[breaks - 1], values[-1:]]).tolist()
    return [(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]
