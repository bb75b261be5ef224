"""Looking clips up in a version of the manifest, a thousand or ten million at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cache_schema.manifest.manifest_part import ManifestPart
from cache_schema.manifest.manifest_row import Standing
from cache_schema.manifest.part_entry import PartEntry
from cache_schema.manifest.part_index import REPLACES, hash_ids
from cache_schema.storage.storage import Storage

NOWHERE: Final = -1
"""The part of a clip without a row."""

# Sorted together, so many ids read each page of an index once; more would cost memory.
_IDS_AT_ONCE: Final = 2**20


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundRows:
    """Where the rows of n clips are, and what the index says of them."""

    part: npt.NDArray[np.int32]
    """int32 [n]: place of the part among the version's, -1 for a clip without a row."""
    row: npt.NDArray[np.int64]
    """int64 [n]: number of the row in its part."""
    ok: npt.NDArray[np.bool_]
    """bool [n]: whether the clip has features."""
    segment: npt.NDArray[np.int64]
    """int64 [n]"""
    block: npt.NDArray[np.int64]
    """int64 [n]: block in the segment."""
    slot: npt.NDArray[np.int64]
    """int64 [n]: slot in the segment, -1 for a clip without features."""
    replaces: npt.NDArray[np.bool_]
    """bool [n]: whether the row came from a commit that replaces."""

    def standings(self, segment_blocks: int) -> list[Standing | None]:
        """Returns what the rows stand for against others of their clips, None for no row."""
        addresses = (self.segment * segment_blocks + self.block).tolist()
        told = zip(
            self.part.tolist(), addresses, self.ok.tolist(), self.replaces.tolist(), strict=True
        )
        return [None if part == NOWHERE else Standing(*rest) for part, *rest in told]


class ManifestIndex:
    """The index of one version: opening it reads nothing, looking up reads the pages concerned.

    Threads may share it; it keeps no file open, and in memory about 1.7 bytes a clip.

    Args:
        storage: where the store lies.
        parts: the version's parts, oldest first.
        block_slots: slots of a block.
    """

    def __init__(self, storage: Storage, parts: Sequence[PartEntry], block_slots: int) -> None:
        self.parts = [ManifestPart(storage, entry) for entry in parts]
        self._block_slots = block_slots

    def find(self, clip_ids: Sequence[str]) -> FoundRows:
        """Looks clips up.

        Args:
            clip_ids: n ids, in any order, known or not.

        Raises:
            CorruptStore: an index is missing or damaged.
        """
        found = _nothing(len(clip_ids))
        for start in range(0, len(clip_ids), _IDS_AT_ONCE):
            self._find_some(clip_ids[start : start + _IDS_AT_ONCE], start, found)
        return found

    def _find_some(self, clip_ids: Sequence[str], start: int, found: FoundRows) -> None:
        high, low = hash_ids(clip_ids)
        # Sorted, keys that stand on one page follow one another.
        missing = np.argsort(high, kind="stable")
        for number in range(len(self.parts) - 1, -1, -1):
            if not len(missing):
                return
            here, entries = self.parts[number].find(high[missing], low[missing])
            place, entries = start + missing[here], entries[here]
            missing = missing[~here]
            stands = entries["place"].astype(np.int64)
            ok = stands >= 0
            found.part[place] = number
            found.row[place] = entries["row"]
            found.ok[place] = ok
            found.segment[place] = entries["segment"]
            found.block[place] = np.where(ok, stands // self._block_slots, -1 - stands)
            found.slot[place] = np.where(ok, stands, -1)
            found.replaces[place] = entries["flags"] & REPLACES != 0


def _nothing(count: int) -> FoundRows:
    return FoundRows(
        part=np.full(count, NOWHERE, np.int32),
        row=np.zeros(count, np.int64),
        ok=np.zeros(count, np.bool_),
        segment=np.zeros(count, np.int64),
        block=np.zeros(count, np.int64),
        slot=np.full(count, -1, np.int64),
        replaces=np.zeros(count, np.bool_),
    )
