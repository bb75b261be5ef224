"""Repairing a store: putting back what was lost, and saying of every clip what became of it."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Final

from cache_schema.errors import CorruptStore
from cache_schema.manifest.manifest_fold import fold_anew
from cache_schema.manifest.manifest_recovery import manifest_steps
from cache_schema.manifest.manifest_version import newest_version
from cache_schema.storage.durable_files import TEMPORARY_PREFIX
from cache_schema.storage.storage import Storage, open_storage
from cache_schema.store_root import read_root
from cache_schema.upkeep.clip_repair import ClipRepair, write_clips
from cache_schema.upkeep.record_audit import Replacements, segment_flaws
from cache_schema.upkeep.record_recovery import recover_records
from cache_schema.upkeep.repair_plan import RepairPlan, RepairStep, Unrepaired
from cache_schema.upkeep.root_recovery import recover_root, segment_steps

_OF_CLIPS: Final = {"replace", "move", "drop"}
_SEGMENT: Final = "seg-"


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairReport:
    """What a repair did."""

    done: tuple[RepairStep, ...]
    left: tuple[Unrepaired, ...]
    """Damage that stays; empty where the store is as it was, but for clips that were dropped."""
    version: int
    """Newest version of the manifest afterwards."""


def plan_repair(
    location: str | PathLike[str],
    *,
    source: str | PathLike[str] | None = None,
    drop: bool = False,
) -> RepairPlan:
    """Says what ``repair_store`` would do; reads every byte of the store and writes nothing.

    Args:
        location: the store.
        source: another store of the same identity to take lost clips from: a copy, or one that the
            clips were extracted into anew.
        drop: whether clips that nobody has are to be marked as failed.

    Raises:
        StoreAbsent, StoreForeign, StoreOlder, StoreNewer: as ``open_store``, of either store.
        CorruptStore: the store's root is damaged and nothing tells what it said, or the source is.
        IdentityMismatch: the source holds other features.
    """
    storage = open_storage(location)
    other = None if source is None else read_root(source)
    root, root_step = recover_root(storage, None if other is None else other.storage)
    copy = other.storage if other is not None and other.attributes == root.attributes else None
    records = recover_records(root, copy, drop=drop)
    clips = ClipRepair(root, None if source is None else fspath(source), drop=drop)
    replacements = Replacements(root, records.commits)
    for _, commit in sorted(records.commits.items()):
        clips.look_at(commit, replacements)
    used = {segment for segment, _ in records.commits}
    steps = [
        *([root_step] if root_step else []),
        *segment_steps(root, segment_flaws(root, used | _segments(storage), used)),
        *records.steps,
        *clips.restored,
        *manifest_steps(root, copy),
        *clips.moved,
    ]
    return RepairPlan(
        location=storage.location, steps=tuple(steps), left=(*records.left, *clips.left)
    )


def repair_store(
    location: str | PathLike[str],
    *,
    source: str | PathLike[str] | None = None,
    drop: bool = False,
    on_step: Callable[[int, int], None] | None = None,
) -> RepairReport:
    """Repairs a store; see ``plan_repair`` for what it does, and in which order.

    Sound files are not touched, and of a damaged file a copy is set aside, under a temporary name,
    before it is replaced in one step. May be killed at any time and run again. Other jobs may write
    into the store meanwhile.

    Args:
        location: as ``plan_repair``.
        source: as ``plan_repair``.
        drop: as ``plan_repair``.
        on_step: called after every step with the number of steps taken and that of all.

    Raises:
        StoreError: as ``plan_repair``.
        OSError: the store cannot be written.
    """
    plan = plan_repair(location, source=source, drop=drop)
    storage = open_storage(location)
    done: list[RepairStep] = []
    left = list(plan.left)

    def tell(step: RepairStep) -> None:
        done.append(step)
        if on_step is not None:
            on_step(len(done), len(plan.steps))

    for step in plan.steps:
        if step.action in _OF_CLIPS:
            continue
        try:
            _take(storage, step)
        except CorruptStore as error:
            left.append(Unrepaired(place=step.place, why=str(error)))
        else:
            tell(step)
    clips = [step for step in plan.steps if step.action in _OF_CLIPS]
    if clips:
        other = None if source is None else fspath(source)
        try:
            left.extend(write_clips(storage.location, other, clips, tell))
        except CorruptStore as error:
            ids = tuple(clip_id for step in clips for clip_id in step.clip_ids)
            left.append(Unrepaired(place="", why=str(error), clip_ids=ids))
    return RepairReport(done=tuple(done), left=tuple(left), version=newest_version(storage))


def _take(storage: Storage, step: RepairStep) -> None:
    if step.action == "fold":
        fold_anew(read_root(storage.location))
        return
    # Made first: what is set aside may be needed for it.
    content = step.content() if step.content is not None else None
    _set_aside(storage, step.place)
    if content is not None:
        storage.replace(step.place, content)
    else:
        storage.delete(step.place)


def _set_aside(storage: Storage, place: str) -> None:
    """Keeps a copy of a damaged file under a name that readers pass over and ``gc`` collects."""
    folder, _, name = place.rpartition("/")
    aside = f"{TEMPORARY_PREFIX}damaged-{name}-{secrets.token_hex(8)}"
    try:
        content = storage.read(place)
    except FileNotFoundError:
        return
    storage.create(f"{folder}/{aside}" if folder else aside, content)


def _segments(storage: Storage) -> set[int]:
    """Returns the numbers of the segments of which there is a finished file."""
    return {
        int(number)
        for file in storage.walk()
        if file.key.startswith(_SEGMENT)
        and TEMPORARY_PREFIX not in file.key
        and (number := file.key.removeprefix(_SEGMENT).partition("/")[0]).isdecimal()
    }
