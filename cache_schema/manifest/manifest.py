"""The manifest: one row per clip, at one of the versions that readers pin."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cache_schema.errors import InputError
from cache_schema.manifest.manifest_index import FoundRows, ManifestIndex
from cache_schema.manifest.manifest_row import SCHEMA, empty_table
from cache_schema.manifest.manifest_version import ManifestVersion, read_version
from cache_schema.outcome import Status
from cache_schema.store_root import StoreRoot


def read_manifest(root: StoreRoot, version: int | None = None) -> "Manifest":
    """Opens one version of a store's manifest, by default the newest.

    Raises:
        InputError: there is no such version.
        CorruptStore: the version's record is damaged, or belongs to another store.
        StoreOlder: the manifest is of the time before it had parts, and has to be made anew.
    """
    return Manifest(root, read_version(root, version))


class Manifest:
    """One version of the manifest; rows are read when they are asked for.

    Args:
        root: the store.
        version: the version's record.
    """

    def __init__(self, root: StoreRoot, version: ManifestVersion) -> None:
        self.version = version
        self.index = ManifestIndex(root.storage, version.parts, root.layout.block_slots)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads the row of every clip, failed ones included, sorted by clip id.

        Args:
            columns: names of ``SCHEMA``; all by default, which is about 1.3 KB a clip in memory.

        Raises:
            InputError: there is no such column.
            CorruptStore: a part is damaged.
        """
        names = _known_columns(columns)
        read = list(dict.fromkeys(["clip_id", *names]))
        table = pa.concat_tables([empty_table(read), *self.tables(read)])
        if len(self.index.parts) > 1:
            table = table.sort_by("clip_id")
        return table.select(names)

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Reads the rows of all clips piece by piece: each part's in the order of their ids.

        Args:
            columns: names of ``SCHEMA``; all by default.

        Raises:
            InputError: there is no such column.
            CorruptStore: a part is damaged.
        """
        names = _known_columns(columns)
        parts = self.index.parts
        overridden = self.version.clips < sum(part.entry.rows for part in parts)
        for number, part in enumerate(parts):
            for group, first in enumerate(part.first_rows.tolist()):
                table = part.row_groups([group], names)
                if overridden:
                    live = self._live_rows[number][first : first + table.num_rows]
                    table = table.filter(pa.array(live))
                yield table

    def rows(self, found: FoundRows, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads the rows that the index has found.

        Args:
            found: what ``index.find`` returned; all must have a row.
            columns: names of ``SCHEMA``; all by default.

        Returns:
            The rows in the order of ``found``.

        Raises:
            InputError: there is no such column.
            CorruptStore: a part is damaged.
        """
        names = _known_columns(columns)
        tables, places = [empty_table(names)], []
        for number in np.unique(found.part).tolist():
            place = np.flatnonzero(found.part == number)
            tables.append(self.index.parts[number].rows(found.row[place], names))
            places.append(place)
        if len(places) < 2:
            return tables[-1]
        return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places))))

    def ok_ids(self) -> list[str]:
        """Returns the ids of the clips that have features, sorted."""
        ids: list[str] = []
        for table in self.tables(["clip_id", "status"]):
            ok = pc.equal(table.column("status"), Status.OK)
            ids.extend(table.column("clip_id").filter(ok).to_pylist())
        # Each part's ids are in order already; Python's sort merges such runs ten times as fast as
        # Arrow sorts strings.
        ids.sort()
        return ids

    @cached_property
    def _live_rows(self) -> list[npt.NDArray[np.bool_]]:
        """For every part bool [rows]: whether no later part has a row of the same clip."""
        parts = self.index.parts
        entries = [part.pages(range(part.sizes.pages))[: part.entry.rows] for part in parts]
        source = np.repeat(np.arange(len(parts)), [part.entry.rows for part in parts])
        joined = np.concatenate(entries)
        # The sort keeps equal keys in the order of the parts, so the last of them counts.
        order = np.lexsort((joined["low"], joined["high"]))
        high, low = joined["high"][order], joined["low"][order]
        dead = order[:-1][(high[1:] == high[:-1]) & (low[1:] == low[:-1])]
        live = [np.ones(part.entry.rows, np.bool_) for part in parts]
        for number in np.unique(source[dead]).tolist():
            live[number][joined["row"][dead[source[dead] == number]]] = False
        return live


def _known_columns(columns: Sequence[str] | None) -> list[str]:
    names = list(SCHEMA.names if columns is None else columns)
    if unknown := [name for name in names if name not in SCHEMA.names]:
        raise InputError(
            f"The manifest has no column {unknown[0]!r}; it has {', '.join(SCHEMA.names)}."
        )
    return names
