"""Recovering claims and commits from each other, from the manifest's rows, and from another copy."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, cast

from cache_schema.blocks.block_claim import (
    BlockClaim,
    ClaimRecord,
    parse_record_name,
    record_name,
    unseal_claim,
)
from cache_schema.blocks.block_commit import (
    NO_SLOT,
    BlockCommit,
    CommittedClip,
    FileSeal,
    read_commit,
)
from cache_schema.blocks.block_runs import BlockRuns
from cache_schema.blocks.process_owner import ProcessOwner
from cache_schema.errors import CorruptStore, SchemaError, StoreOlder
from cache_schema.layout import CLAIMS, COMMITS
from cache_schema.manifest.manifest import Manifest
from cache_schema.manifest.manifest_row import row_outcome
from cache_schema.manifest.manifest_version import read_version, version_numbers
from cache_schema.storage.storage import Storage
from cache_schema.store_root import StoreRoot
from cache_schema.upkeep.pins import PINS, read_pin
from cache_schema.upkeep.record_audit import pin_flaws
from cache_schema.upkeep.repair_plan import RepairStep, Unrepaired
from cache_schema.upkeep.shard_recovery import sound_digest

Block = tuple[int, int]
"""Segment, and number of the block in it."""
Rows = Mapping[Block, Sequence[Mapping[str, object]]]

_UNKNOWN: Final = "unknown"


@dataclass(kw_only=True, slots=True)
class RecoveredRecords:
    """The commits of a store as they are or were, and what it takes to have them so again."""

    commits: dict[Block, BlockCommit] = field(default_factory=dict)
    steps: list[RepairStep] = field(default_factory=list)
    left: list[Unrepaired] = field(default_factory=list)


def recover_records(root: StoreRoot, copy: Storage | None, *, drop: bool) -> RecoveredRecords:
    """Reads all commits, and derives the damaged and missing ones and the claims.

    Args:
        root: the store.
        copy: another copy of the very same store, if there is one.
        drop: whether a block that nothing tells of may be ended, so that its clips are pending again.
    """
    found = RecoveredRecords()
    damaged: dict[Block, str] = {}
    for name in root.storage.names(COMMITS):
        place = parse_record_name(name)
        if place is None:
            continue
        try:
            found.commits[place] = read_commit(root.storage, name)
        except CorruptStore as error:
            damaged[place] = str(error)
    rows, folded = _manifest_rows(root, found.commits)
    blocks = root.layout.segment_blocks
    for address in folded:
        place = divmod(address, blocks)
        if place not in found.commits:
            damaged.setdefault(place, "is missing")
    for place, why in sorted(damaged.items()):
        _recover_commit(root, copy, found, place, why, rows.get(place, ()), folded, drop=drop)
    found.steps.extend(_claim_steps(root, copy, found.commits))
    _recover_pins(root, copy, found)
    return found


def _recover_commit(
    root: StoreRoot,
    copy: Storage | None,
    found: RecoveredRecords,
    place: Block,
    why: str,
    rows: Sequence[Mapping[str, object]],
    folded: BlockRuns,
    *,
    drop: bool,
) -> None:
    key = f"{COMMITS}/{record_name(*place)}"
    claim = _claim(root.storage, place)
    commit = _copied_commit(copy, place, claim)
    address = place[0] * root.layout.segment_blocks + place[1]
    if commit is None and rows:
        commit = _derived_commit(root, place, claim, rows)
    elif commit is None and (address in folded or drop):
        # Folded without a row: nothing that it said counts. Otherwise its clips are done anew.
        ended = claim or _nothing(place)
        commit = BlockCommit.of_claim(ended, job="repair", abandoned=True)
    if commit is None:
        clips = claim.clip_ids if claim else ()
        what = (
            f"{why}; no copy and no manifest tells what it said. Give a copy of the store, or drop"
        )
        found.left.append(Unrepaired(place=key, why=what, clip_ids=clips))
        return
    found.commits[place] = commit
    content = partial(bytes, commit.encode())
    found.steps.append(RepairStep(action="rewrite", place=key, why=why, content=content))


def _claim_steps(
    root: StoreRoot, copy: Storage | None, commits: Mapping[Block, BlockCommit]
) -> Iterator[RepairStep]:
    for place, commit in sorted(commits.items()):
        key = f"{CLAIMS}/{record_name(*place)}"
        try:
            record = unseal_claim(root.storage, record_name(*place))
        except FileNotFoundError:
            why = "is missing"
        except CorruptStore as error:
            why = str(error)
        else:
            if (record.claim.segment, record.claim.block) == place:
                continue
            why = "is the claim of another block"
        content = _copied_claim(copy, commit) or _derived_claim(commit)
        yield RepairStep(action="rewrite", place=key, why=why, content=partial(bytes, content))


def _recover_pins(root: StoreRoot, copy: Storage | None, found: RecoveredRecords) -> None:
    for flaw in pin_flaws(root):
        name = flaw.place.removeprefix(f"{PINS}/").removesuffix(".json")
        content = None
        if copy is not None:
            with suppress(CorruptStore, FileNotFoundError):
                read_pin(copy, name)
                content = partial(copy.read, flaw.place)
        if content is None:
            what = f"{flaw.message} No copy tells which version it keeps"
            found.left.append(Unrepaired(place=flaw.place, why=what))
            continue
        found.steps.append(
            RepairStep(action="rewrite", place=flaw.place, why=flaw.message, content=content)
        )


def _manifest_rows(root: StoreRoot, sound: Collection[Block]) -> tuple[Rows, BlockRuns]:
    """Returns the rows of damaged blocks, and which blocks the newest sound version has folded.

    A clip that was replaced has a row of its old block in older versions only, so all are looked at.
    """
    rows: dict[Block, dict[str, Mapping[str, object]]] = {}
    newest: BlockRuns | None = None
    for number in reversed(version_numbers(root.storage)):
        with suppress(CorruptStore, StoreOlder):
            manifest = Manifest(root, read_version(root, number))
            if newest is None:
                newest = manifest.version.blocks
                places = (divmod(address, root.layout.segment_blocks) for address in newest)
                rows = {place: {} for place in places if place not in sound}
            for table in manifest.tables() if rows else ():
                for row in table.to_pylist():
                    if (place := (row["segment"], row["block"])) in rows:
                        rows[place].setdefault(row["clip_id"], row)
    found = {place: list(clips.values()) for place, clips in rows.items()}
    return found, newest or BlockRuns()


def _derived_commit(
    root: StoreRoot, place: Block, claim: BlockClaim | None, rows: Sequence[Mapping[str, object]]
) -> BlockCommit | None:
    """Makes a commit from the manifest's rows of its clips; None where some of them are gone."""
    layout = root.layout
    order = {clip_id: rank for rank, clip_id in enumerate(claim.clip_ids if claim else ())}
    ordered = sorted(
        rows, key=lambda row: (order.get(str(row["clip_id"]), 0), cast("int", row["slot"]))
    )
    try:
        clips = tuple(
            CommittedClip(
                outcome=row_outcome(row),
                slot=cast("int", row["slot"]),
                patch=_seal(row["patch_digest"], layout.patch_shard.file_bytes(layout.frames)),
            )
            for row in ordered
        )
    except SchemaError:
        return None
    ok = sorted(clip.slot for clip in clips if clip.slot != NO_SLOT)
    first = place[1] * layout.block_slots
    size = root.storage.size(layout.cls_file(*place))
    cls_bytes = layout.cls_shard.file_bytes(len(ok))
    if ok != list(range(first, first + len(ok))) or (ok and size not in {None, cls_bytes}):
        return None
    cls_file = next((row["cls_digest"] for row in rows if row["cls_digest"]), "")
    scale = sound_digest(root.storage, layout.scale_file(*place), layout.scale_shard, len(ok))
    committed = cast("datetime", rows[0]["committed"])
    return BlockCommit(
        segment=place[0],
        block=place[1],
        token=claim.token if claim else "",
        job=claim.job if claim else "repair",
        committed=committed.isoformat(timespec="microseconds"),
        abandoned=False,
        cls=_seal(cls_file, cls_bytes),
        clips=clips,
        scale=_seal(scale, layout.scale_shard.file_bytes(len(ok))) if layout.quantised else None,
        replaces=bool(rows[0]["replaces"]),
    )


def _seal(digest: object, size: int) -> FileSeal | None:
    return FileSeal(bytes=size, digest=str(digest)) if digest else None


def _claim(storage: Storage, place: Block) -> BlockClaim | None:
    with suppress(CorruptStore, FileNotFoundError):
        claim = unseal_claim(storage, record_name(*place)).claim
        return claim if (claim.segment, claim.block) == place else None
    return None


def _copied_commit(
    copy: Storage | None, place: Block, claim: BlockClaim | None
) -> BlockCommit | None:
    if copy is None:
        return None
    with suppress(CorruptStore, FileNotFoundError):
        commit = read_commit(copy, record_name(*place))
        return commit if claim is None or commit.token == claim.token else None
    return None


def _copied_claim(copy: Storage | None, commit: BlockCommit) -> bytes | None:
    if copy is None:
        return None
    name = record_name(commit.segment, commit.block)
    with suppress(CorruptStore, FileNotFoundError):
        if unseal_claim(copy, name).claim.token == commit.token:
            return copy.read(f"{CLAIMS}/{name}")
    return None


def _derived_claim(commit: BlockCommit) -> bytes:
    claim = BlockClaim(
        segment=commit.segment,
        block=commit.block,
        clip_ids=tuple(clip.outcome.clip_id for clip in commit.clips),
        job=commit.job,
        token=commit.token or _UNKNOWN,
        replaces=commit.replaces,
    )
    # Nobody owns it any more: a commit has ended the block.
    return ClaimRecord(claim=claim, owner=ProcessOwner(host="", pid=0, pid_start="")).encode()


def _nothing(place: Block) -> BlockClaim:
    return BlockClaim(segment=place[0], block=place[1], clip_ids=(), job=_UNKNOWN, token="")
