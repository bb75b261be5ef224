"""Repairing the features of clips: restored byte for byte, moved, replaced, or given up."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from cache_schema.blocks.block_audit import block_flaws
from cache_schema.blocks.block_commit import NO_SLOT, BlockCommit
from cache_schema.errors import CorruptStore, StoreBusy
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.reader import FeatureStore, Float16, open_store
from cache_schema.store_root import StoreRoot
from cache_schema.upkeep.record_audit import Replacements
from cache_schema.upkeep.repair_plan import RepairStep, Unrepaired
from cache_schema.upkeep.shard_recovery import ShardPlace, ShardRecovery, shards_of
from cache_schema.writer import StoreWriter

DAMAGED: Final = "damaged"
"""Reason of the failure of a clip whose features were lost and given up."""

_FILE_CODES: Final = {"missing", "length", "digest", "index", "checksum"}
"""Flaws of the kind that a file's bytes are not what was written."""

_HELP: Final = (
    "give a copy of the store, or a store that the clip was extracted into anew, as the source; or "
    "drop the clip"
)


class ClipRepair:
    """Plans what is done about the shards of blocks.

    Args:
        root: the store.
        source: another store of the same identity, if there is one.
        drop: whether clips that nobody has are to be marked as failed.
    """

    def __init__(self, root: StoreRoot, source: str | None, *, drop: bool) -> None:
        self._root = root
        self._recovery = ShardRecovery(root, source)
        self._source = None if source is None else open_store(source)
        self._drop = drop
        self.restored: list[RepairStep] = []
        """Files whose bytes are put back."""
        self.moved: list[RepairStep] = []
        """Clips that get an entry in a new block."""
        self.left: list[Unrepaired] = []

    def look_at(self, commit: BlockCommit, replacements: Replacements) -> None:
        """Looks at the files of one block.

        Args:
            commit: the block.
            replacements: which of its entries count no more.
        """
        damaged: dict[str, str] = {}
        for flaw, place, _ in block_flaws(self._root, commit, quick=False):
            if flaw.code in _FILE_CODES:
                damaged.setdefault(place, flaw.message)
        lost: list[ShardPlace] = []
        for shard in shards_of(commit, self._root.layout):
            if shard.key not in damaged:
                continue
            if self._recovery.content(shard) is None:
                lost.append(shard)
                continue
            self.restored.append(
                RepairStep(
                    action="restore",
                    place=shard.key,
                    why=damaged[shard.key],
                    clip_ids=tuple(shard.clips) if shard.array == "patch" else (),
                    content=partial(self._content, shard),
                )
            )
        here = commit.segment, commit.block
        ids = [clip.outcome.clip_id for clip in commit.clips if clip.slot != NO_SLOT]
        self._give_up(
            lost, [clip for clip in ids if not replacements.replaced(here, clip)], damaged
        )
        known = {clip_id for item in self.left for clip_id in item.clip_ids}
        for shard in lost:
            gone = set(shard.clips) - known
            if shard.array != "patch":
                gone -= self._recovery.sound_clips(shard)
            if pinned := tuple(sorted(c for c in gone if replacements.pinned(here, c))):
                why = f"{damaged[shard.key]}; a pinned version shows it: {_HELP}, and unpin"
                self.left.append(Unrepaired(place=shard.key, why=why, clip_ids=pinned))

    def _give_up(
        self, lost: Sequence[ShardPlace], live: Sequence[str], damaged: Mapping[str, str]
    ) -> None:
        """Decides about the clips of shards whose bytes nobody has."""
        place_of: dict[str, ShardPlace] = {}
        sound = set(live)
        for shard in lost:
            place_of.update((clip, shard) for clip in shard.clips if clip not in place_of)
            sound -= set(shard.clips) - (
                set() if shard.array == "patch" else self._recovery.sound_clips(shard)
            )
        steps, left = [], []
        for clip_id in live:
            if clip_id not in place_of:
                continue
            place = place_of[clip_id].key
            why = damaged[place]
            if self._source is not None and clip_id in self._source:
                steps.append(
                    RepairStep(action="replace", place=place, why=why, clip_ids=(clip_id,))
                )
            elif clip_id in sound:
                steps.append(RepairStep(action="move", place=place, why=why, clip_ids=(clip_id,)))
            elif self._drop:
                steps.append(RepairStep(action="drop", place=place, why=why, clip_ids=(clip_id,)))
            else:
                left.append(Unrepaired(place=place, why=f"{why}; {_HELP}", clip_ids=(clip_id,)))
        # Moving sound clips makes a block sound only where nothing of it is left to be done.
        self.moved.extend(step for step in steps if not (left and step.action == "move"))
        self.left.extend(left)

    def _content(self, shard: ShardPlace) -> bytes:
        content = self._recovery.content(shard)
        if content is None:
            raise CorruptStore(
                f"The bytes of {self._root.storage.name(shard.key)}, found a moment ago, are gone. "
                f"Repair the store again when nothing else changes its source."
            )
        return content


class _ClipFeatures(NamedTuple):
    outcome: ClipOutcome
    cls: Float16
    patch: Float16


def write_clips(
    location: str,
    source: str | None,
    steps: Sequence[RepairStep],
    done: Callable[[RepairStep], None],
) -> Iterator[Unrepaired]:
    """Gives clips their entries in new blocks, which replace the old ones.

    Args:
        location: the store; all but these clips must be repaired.
        source: the store that ``replace`` steps take features from.
        steps: replace, move and drop steps, one clip each.
        done: called with every step that was taken.

    Yields:
        Clips that could not be repaired.

    Raises:
        CorruptStore: a commit or the manifest is damaged.
    """
    root_identity = open_store(location).identity
    with StoreWriter(location, root_identity, job="repair") as writer:
        # What was committed but not folded yet can be read then.
        writer.compact()
        stores = {"move": open_store(location)}
        if source is not None:
            stores["replace"] = open_store(source)
        try:
            for start in range(0, len(steps), writer.block_slots):
                yield from _write_block(
                    writer, stores, steps[start : start + writer.block_slots], done
                )
        finally:
            writer.compact()


def _write_block(
    writer: StoreWriter,
    stores: Mapping[str, FeatureStore],
    steps: Sequence[RepairStep],
    done: Callable[[RepairStep], None],
) -> Iterator[Unrepaired]:
    read: dict[str, _ClipFeatures] = {}
    for step in steps:
        (clip_id,) = step.clip_ids
        try:
            read[clip_id] = _features(writer, stores, step)
        except CorruptStore as error:
            yield Unrepaired(place=step.place, why=str(error), clip_ids=step.clip_ids)
    claim = writer.claim(list(read), replace=True) if read else None
    taken = set(claim.clip_ids) if claim else set()
    for step in steps:
        (clip_id,) = step.clip_ids
        if clip_id in read and clip_id not in taken:
            why = "another job has the clip in hand; repair the store again"
            yield Unrepaired(place=step.place, why=why, clip_ids=step.clip_ids)
    if claim is None:
        return
    clips = [read[clip_id] for clip_id in claim.clip_ids]
    cls, patch = np.stack([clip.cls for clip in clips]), np.stack([clip.patch for clip in clips])
    try:
        writer.write_block(claim, [clip.outcome for clip in clips], cls, patch)
    except StoreBusy as error:
        for clip_id in claim.clip_ids:
            yield Unrepaired(place="", why=str(error), clip_ids=(clip_id,))
        return
    for step in steps:
        if step.clip_ids[0] in taken:
            done(step)


def _features(
    writer: StoreWriter, stores: Mapping[str, FeatureStore], step: RepairStep
) -> _ClipFeatures:
    identity, (clip_id,) = writer.identity, step.clip_ids
    if step.action == "drop":
        outcome = ClipOutcome(
            clip_id=clip_id,
            status=Status.FAILED,
            reason=DAMAGED,
            detail=f"{step.place}: {step.why}; the features were given up in a repair",
        )
        cls = np.zeros((identity.frames, identity.dim), dtype=np.float16)
        patches = np.zeros((identity.frames, identity.patches, identity.dim), dtype=np.float16)
        return _ClipFeatures(outcome, cls, patches)
    store = stores[step.action]
    return _ClipFeatures(
        store.outcome(clip_id), store.read_cls([clip_id])[0], store.read_patches([clip_id])[0]
    )
