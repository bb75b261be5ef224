"""What copying clips into a store would do: which, from where, how large, and what speaks against it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Final

from cache_schema.errors import IdentityMismatch, InputError, StoreAbsent, StoreError
from cache_schema.layout import StoreLayout
from cache_schema.reader import FeatureStore, open_store
from cache_schema.sharing.feature_equality import (
    ArrayName,
    ClipRecord,
    clip_records,
    differing_features,
)
from cache_schema.storage.free_space import bytes_free
from cache_schema.store_root import read_root
from cache_schema.writer import StoreWriter

_KEPT_FREE: Final = 64 << 20
_SHOWN_CONFLICTS: Final = 20

Records = Mapping[str, ClipRecord]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipConflict:
    """A clip of which two stores of one identity hold different features."""

    clip_id: str
    stores: tuple[str, str]
    """Where the two stores are."""
    array: ArrayName
    """The features that differ; patches are looked at first."""

    def __str__(self) -> str:
        return (
            f"{self.clip_id!r} has other {self.array} features in {' than in '.join(self.stores)}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyPlan:
    """A copy before it starts."""

    layout: StoreLayout
    """Layout of the target; of the first source where the target is yet to be made."""
    take: Mapping[str, int]
    """The clips to copy, in the order of copying, each with the number of its source."""
    present: tuple[str, ...]
    """Clips that the target holds already, or that another job has in hand."""
    missing: tuple[str, ...]
    """Clips asked for that no source knows."""
    conflicts: tuple[ClipConflict, ...]
    """What the stores disagree about; nothing is copied while there is any."""
    bytes_needed: int
    """Size of the features to copy."""
    bytes_free: int | None
    """Free space of the target's disk; None where the target is no local folder."""

    def to_json(self) -> dict[str, object]:
        """Returns what would be done as plain JSON values."""
        return {
            "take": list(self.take),
            "present": len(self.present),
            "missing": list(self.missing),
            "conflicts": [asdict(conflict) for conflict in self.conflicts],
            "bytes_needed": self.bytes_needed,
            "bytes_free": self.bytes_free,
        }

    def require_room(self) -> None:
        """Refuses a copy that does not fit on the disk.

        Raises:
            InputError: with both sizes.
        """
        if self.bytes_free is not None and self.bytes_needed + _KEPT_FREE > self.bytes_free:
            raise InputError(
                f"{len(self.take)} clips need {self.bytes_needed / 1e6:.0f} MB and the disk has "
                f"{self.bytes_free / 1e6:.0f} MB free. Free some, name a target on another disk, or "
                f"copy fewer clips."
            )

    def require_agreement(self) -> None:
        """Refuses a copy between stores that disagree about a clip.

        Raises:
            StoreError: names the clips; nothing was copied.
        """
        if not self.conflicts:
            return
        shown = [str(conflict) for conflict in self.conflicts[:_SHOWN_CONFLICTS]]
        if len(self.conflicts) > len(shown):
            shown.append(f"... and {len(self.conflicts) - len(shown)} more")
        listed = "\n  ".join(shown)
        raise StoreError(
            f"Stores of one identity disagree about {len(self.conflicts)} clips, so nothing was "
            f"copied:\n  {listed}\nCompare them with `videodistill store diff`; leave out the store "
            f"that is wrong."
        )


def plan_copy(
    sources: Sequence[FeatureStore],
    target: str | PathLike[str],
    clip_ids: Iterable[str] | None = None,
) -> CopyPlan:
    """Says what copying clips into a store would do; copies nothing.

    Features go before a failure, and the store named first goes before the others. Features that
    several stores have of a clip are compared, also with those that the target has.

    Args:
        sources: stores of one identity, at least one.
        target: the store to copy into; absent, or of the same identity.
        clip_ids: the clips, by default all of the sources; failed ones are copied as failures.

    Raises:
        InputError: there is no source.
        IdentityMismatch: the stores are not of one identity.
        StoreForeign, StoreNewer, StoreOlder, CorruptStore: as ``open_store``.
    """
    if not sources:
        raise InputError("There is no store to copy from; name at least one.")
    for source in sources[1:]:
        _require_same_identity(sources[0], source)
    records = [clip_records(source) for source in sources]
    known = set[str]().union(*records)
    wanted = sorted(known) if clip_ids is None else list(dict.fromkeys(clip_ids))
    chosen = {clip: _choose(clip, records) for clip in wanted if clip in known}
    held = _open_target(target, sources[0])
    ok = [clip for clip, number in chosen.items() if records[number][clip].ok]
    pending = _pending(held, ok, [clip for clip in chosen if clip not in set(ok)])
    stores = [*sources, *([held] if held else [])]
    layout = read_root((held or sources[0]).location).layout
    take = sorted(pending, key=lambda clip: (chosen[clip], records[chosen[clip]][clip][1:3], clip))
    return CopyPlan(
        layout=layout,
        take={clip: chosen[clip] for clip in take},
        present=tuple(clip for clip in chosen if clip not in pending),
        missing=tuple(clip for clip in wanted if clip not in known),
        conflicts=tuple(_conflicts({clip: chosen[clip] for clip in ok}, stores, records)),
        bytes_needed=len(pending.intersection(ok)) * layout.clip_bytes,
        bytes_free=bytes_free(target),
    )


def _choose(clip_id: str, records: Sequence[Records]) -> int:
    holders = [number for number, known in enumerate(records) if clip_id in known]
    return next((number for number in holders if records[number][clip_id].ok), holders[0])


def _require_same_identity(one: FeatureStore, other: FeatureStore) -> None:
    if one.identity != other.identity:
        differences = "\n  ".join(one.identity.differences(other.identity))
        raise IdentityMismatch(
            f"The stores {one.location} (here) and {other.location} (there) hold other features than one "
            f"another:\n  {differences}\nOnly stores of one identity can be put together."
        )


def _open_target(target: str | PathLike[str], source: FeatureStore) -> FeatureStore | None:
    try:
        held = open_store(target)
    except StoreAbsent:
        return None
    _require_same_identity(source, held)
    return held


def _pending(held: FeatureStore | None, ok: Sequence[str], failed: Sequence[str]) -> set[str]:
    """Returns the clips that the target lacks: those with features also where it has a failure."""
    if held is None:
        return {*ok, *failed}
    with StoreWriter(held.location, held.identity) as writer:
        return {*writer.pending(ok, retry_failed=True), *writer.pending(failed)}


def _conflicts(
    chosen: Mapping[str, int], stores: Sequence[FeatureStore], records: Sequence[Records]
) -> Iterator[ClipConflict]:
    """Compares the features chosen for each clip with those of every other store that has them."""
    tables = [*records, *(clip_records(store) for store in stores[len(records) :])]
    shared: dict[tuple[int, int], list[str]] = defaultdict(list)
    for clip_id, number in chosen.items():
        for other in range(number + 1, len(stores)):
            found = tables[other].get(clip_id)
            if found is not None and found.ok:
                shared[number, other].append(clip_id)
    for (one, other), clip_ids in sorted(shared.items()):
        pair = stores[one], stores[other]
        differing = differing_features(pair, (tables[one], tables[other]), clip_ids)
        for clip_id, array in differing.items():
            places = pair[0].location, pair[1].location
            yield ClipConflict(clip_id=clip_id, stores=places, array=array)
