"""Collecting what no reader can ask for any more: leftovers, replaced features, old versions."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from os import PathLike
from typing import Final, Literal

from cache_schema.blocks.block_claim import LEASE_S, parse_record_name
from cache_schema.blocks.block_commit import NO_SLOT, BlockCommit, read_commit
from cache_schema.layout import CLAIMS, COMMITS, MANIFEST, StoreLayout
from cache_schema.manifest.manifest_version import (
    ManifestVersion,
    newest_version,
    point_current,
    read_version,
    record_key,
    version_numbers,
)
from cache_schema.storage.durable_files import TEMPORARY_PREFIX
from cache_schema.storage.storage import StoredFile
from cache_schema.store_root import StoreRoot, read_root
from cache_schema.upkeep.pins import read_pins
from cache_schema.upkeep.record_audit import Block
from cache_schema.writer import StoreWriter

WEEK_S: Final = 7 * 86400.0
"""What is younger than this is spared by default."""

Kind = Literal["temporary", "abandoned", "replaced", "version"]
"""temporary: of a write that did not finish, or set aside by a repair; abandoned: a shard of a block
without a commit; replaced: a shard that a later block takes the place of; version: an old version of
the manifest, or a part of it that only old versions need."""

_ORDER: Final[tuple[Kind, ...]] = ("version", "replaced", "abandoned", "temporary")


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """One file that can go."""

    kind: Kind
    place: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GcPlan:
    """What collecting would remove, in the order of removing."""

    location: str
    garbage: tuple[Garbage, ...]
    kept_versions: tuple[int, ...]
    """Versions of the manifest that can be read afterwards."""

    @property
    def bytes(self) -> int:
        """Room that collecting makes."""
        return sum(item.bytes for item in self.garbage)

    def to_json(self) -> dict[str, object]:
        """Returns the plan as plain JSON values."""
        return {
            "location": self.location,
            "bytes": self.bytes,
            "kept_versions": list(self.kept_versions),
            "garbage": [
                {"kind": item.kind, "place": item.place, "bytes": item.bytes}
                for item in self.garbage
            ],
        }


def plan_gc(location: str | PathLike[str], *, older_than_s: float = WEEK_S) -> GcPlan:
    """Says what ``collect`` would remove; removes nothing.

    Spared are the newest version of the manifest, the pinned ones, and those that were the newest
    within the age; every feature that one of them shows; what a live process has claimed; and every
    file younger than the age, or than a lease, which is how long a write may be under way.

    Args:
        location: the store.
        older_than_s: the age in seconds, by the store's own clock.

    Raises:
        StoreAbsent, StoreForeign, StoreOlder, StoreNewer: as ``open_store``.
        CorruptStore: a commit, a pin, or a version that is to be kept is damaged: it is not known
            what belongs to it, so nothing can be removed. Repair the store first.
    """
    root = read_root(location)
    kept = _kept_versions(root, older_than_s)
    commits = {
        place: read_commit(root.storage, name)
        for name in root.storage.names(COMMITS)
        if (place := parse_record_name(name)) is not None
    }
    claims = set(filter(None, map(parse_record_name, root.storage.names(CLAIMS))))
    sorting = _Sorting(root, kept, commits, claims)
    # Asked before looking at files: a claim that appears later is of files that appear later.
    garbage = [
        Garbage(kind=kind, place=file.key, bytes=file.size)
        for file in root.storage.walk()
        if file.age_s > max(older_than_s, LEASE_S) and (kind := sorting.kind(file)) is not None
    ]
    garbage.extend(_old_records(root, {version.number for version in kept}))
    garbage.sort(key=lambda item: (_ORDER.index(item.kind), not _is_record(item.place), item.place))
    return GcPlan(
        location=root.storage.location,
        garbage=tuple(garbage),
        kept_versions=tuple(sorted(version.number for version in kept)),
    )


def collect(
    location: str | PathLike[str],
    *,
    older_than_s: float = WEEK_S,
    on_file: Callable[[int, int], None] | None = None,
) -> GcPlan:
    """Removes what ``plan_gc`` lists, after it has ended the claims of dead processes.

    May be killed at any time and run again. Other jobs may read and write meanwhile.

    Args:
        location: the store.
        older_than_s: as ``plan_gc``.
        on_file: called after every file with the number removed and that of all.

    Returns:
        What was removed.

    Raises:
        StoreError: as ``plan_gc``.
        OSError: the store cannot be written.
    """
    root = read_root(location)
    with StoreWriter(root.storage.location, root.identity, job="gc") as writer:
        writer.pending([])
    plan = plan_gc(location, older_than_s=older_than_s)
    if plan.kept_versions:
        # A compactor that died may have left the hint at a version that goes.
        point_current(root.storage, plan.kept_versions[-1])
    for number, item in enumerate(plan.garbage, start=1):
        if _is_record(item.place) and _is_pinned(root, item.place):
            # Since it was looked at: what it shows must stay too.
            rest = collect(location, older_than_s=older_than_s, on_file=on_file)
            return replace(rest, garbage=(*plan.garbage[: number - 1], *rest.garbage))
        root.storage.delete(item.place)
        if on_file is not None:
            on_file(number, len(plan.garbage))
    return plan


def _kept_versions(root: StoreRoot, older_than_s: float) -> list[ManifestVersion]:
    """Returns the newest version, the pinned ones, and those that were the newest within the age."""
    numbers = version_numbers(root.storage)
    # Others may publish while this looks; what was the newest when it began counts as in use.
    keep = {
        newest_version(root.storage),
        *numbers[-1:],
        *(pin.version for pin in read_pins(root.storage)),
    }
    for number, successor in pairwise(numbers):
        # Whoever opens the store finds a version first, and reads it then.
        if root.storage.age_s(record_key(successor)) <= max(older_than_s, LEASE_S):
            keep.add(number)
    return [read_version(root, number) for number in sorted(keep) if number]


def _old_records(root: StoreRoot, kept: Collection[int]) -> Iterator[Garbage]:
    """Yields the versions that are not kept; what was published since the look stays."""
    newest = max(kept, default=0)
    for number in version_numbers(root.storage):
        if number < newest and number not in kept:
            key = record_key(number)
            yield Garbage(kind="version", place=key, bytes=root.storage.size(key) or 0)


def _is_record(place: str) -> bool:
    return place.startswith(f"{MANIFEST}/v")


def _is_pinned(root: StoreRoot, place: str) -> bool:
    return place in {record_key(pin.version) for pin in read_pins(root.storage)}


class _Sorting:
    """Tells of each file of a store whether it can go."""

    def __init__(
        self,
        root: StoreRoot,
        kept: Collection[ManifestVersion],
        commits: Mapping[Block, BlockCommit],
        claims: Collection[Block],
    ) -> None:
        self._layout = root.layout
        self._commits = commits
        self._claims = claims
        self._parts = {key for version in kept for part in version.parts for key in part.keys}
        self._shown = set(_shown_files(root.layout, kept, commits))

    def kind(self, file: StoredFile) -> Kind | None:
        """Returns why a file can go, None for one that stays."""
        folder, _, name = file.key.rpartition("/")
        if name.startswith(TEMPORARY_PREFIX):
            return "temporary"
        if folder == MANIFEST and name.startswith("part-"):
            return None if file.key in self._parts else "version"
        place = _block_of(file.key, self._layout)
        if place is None or file.key in self._shown:
            return None
        commit = self._commits.get(place)
        if commit is None:
            # Under a claim it is being written, or its owner's death has not been noticed yet.
            return None if place in self._claims else "abandoned"
        return "replaced" if file.key in _files_of(commit, self._layout) else "abandoned"


def _shown_files(
    layout: StoreLayout, kept: Collection[ManifestVersion], commits: Mapping[Block, BlockCommit]
) -> Iterator[str]:
    """Yields the shards that a kept version shows, or a commit that is not folded yet."""
    blocks = layout.segment_blocks
    by_clip: dict[str, list[int]] = {}
    for (segment, block), commit in commits.items():
        if commit.replaces:
            for clip in commit.clips:
                by_clip.setdefault(clip.outcome.clip_id, []).append(segment * blocks + block)
    for (segment, block), commit in commits.items():
        address = segment * blocks + block
        for clip in commit.clips:
            later = [a for a in by_clip.get(clip.outcome.clip_id, ()) if a > address]
            if clip.slot == NO_SLOT:
                continue
            if not later or any(
                address in version.blocks and not any(a in version.blocks for a in later)
                for version in kept
            ):
                yield from layout.clip_files(segment, clip.slot)
                yield from layout.block_files(segment, block)


def _files_of(commit: BlockCommit, layout: StoreLayout) -> set[str]:
    slots = [clip.slot for clip in commit.clips if clip.slot != NO_SLOT]
    files = {key for slot in slots for key in layout.clip_files(commit.segment, slot)}
    return files | set(layout.block_files(commit.segment, commit.block) if slots else ())


def _block_of(key: str, layout: StoreLayout) -> Block | None:
    """Returns the block that a shard file belongs to, None for any other file."""
    parts = key.split("/")
    if len(parts) != 3 or not parts[0].startswith("seg-") or not parts[2].startswith("c."):
        return None
    number, segment = parts[2].split(".")[1], parts[0].removeprefix("seg-")
    if not (number.isdecimal() and segment.isdecimal()):
        return None
    per_clip = parts[1] == "patch"
    return int(segment), int(number) // (layout.block_slots if per_clip else 1)
