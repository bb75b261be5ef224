"""Verifying a whole store: everything that is damaged, doubtful or left over, none of it repaired."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike

from cache_schema.blocks.block_audit import PlacedFlaw, block_flaws
from cache_schema.blocks.block_claim import parse_record_name
from cache_schema.blocks.block_commit import NO_SLOT, BlockCommit, CommittedClip, read_commit
from cache_schema.blocks.block_runs import BlockRuns
from cache_schema.errors import CorruptStore, StoreOlder
from cache_schema.layout import CLAIMS, COMMITS
from cache_schema.manifest.manifest import Manifest, read_manifest
from cache_schema.manifest.manifest_audit import manifest_flaws, total_flaws
from cache_schema.manifest.manifest_row import row_outcome
from cache_schema.manifest.manifest_version import CURRENT_KEY
from cache_schema.shards.shard_audit import Severity
from cache_schema.storage.durable_files import TEMPORARY_PREFIX
from cache_schema.store_root import StoreRoot, read_root
from cache_schema.upkeep.record_audit import (
    Replacements,
    claim_flaws,
    pin_flaws,
    root_flaws,
    segment_flaws,
)

Block = tuple[int, int]
"""Segment, and number of the block in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing found wrong, doubtful or left over."""

    severity: Severity
    """error: data are lost or wrong; warning: features look wrong; notice: no harm to readers."""
    code: str
    """Short name of the kind of finding, such as ``checksum``."""
    place: str
    """File or folder concerned, below the store's root."""
    clip_id: str | None
    """Clip concerned, where there is one."""
    message: str
    """What was found."""

    def __str__(self) -> str:
        clip = "" if self.clip_id is None else f" (clip {self.clip_id!r})"
        return f"{self.severity}: {self.place}{clip}: {self.message}"


def verify_store(
    location: str | PathLike[str],
    *,
    quick: bool = False,
    on_clip: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Verifies a store and returns all findings; none means that the store is sound.

    Args:
        location: path of the store.
        quick: check metadata, commits, the manifest and the length of every file; without it also
            claims, the digest and every checksum, and look at every feature: NaN, infinity, constant
            features, and patch tokens that all repeat one.
        on_clip: called after every block with the number of clips looked at and that of all clips.

    Raises:
        StoreAbsent, StoreForeign, StoreOlder, StoreNewer: as ``open_store``.
    """
    try:
        root = read_root(location)
    except CorruptStore as error:
        return [_finding("error", "metadata", _place(error, str(location)), str(error))]
    files = sorted(file.key for file in root.storage.walk())
    commits, findings = _read_commits(root)
    findings.extend(_record_findings(root, commits, files, quick=quick))
    findings.extend(_manifest_findings(root, commits))
    done, total = 0, sum(len(commit.clips) for commit in commits.values())
    replacements = Replacements(root, commits)
    for commit in commits.values():
        flaws = block_flaws(root, commit, quick=quick)
        findings.extend(_block_findings(commit, flaws, replacements))
        done += len(commit.clips)
        if on_clip is not None:
            on_clip(done, total)
    findings.extend(_left_over(root, commits, files))
    return findings


def _read_commits(root: StoreRoot) -> tuple[dict[Block, BlockCommit], list[Finding]]:
    commits, findings = {}, []
    for name in sorted(root.storage.names(COMMITS)):
        place = parse_record_name(name)
        if place is None:
            continue
        try:
            commits[place] = read_commit(root.storage, name)
        except CorruptStore as error:
            findings.append(_finding("error", "commit", f"{COMMITS}/{name}", str(error)))
    return commits, findings


def _record_findings(
    root: StoreRoot,
    commits: Mapping[Block, BlockCommit],
    files: Sequence[str],
    *,
    quick: bool,
) -> Iterator[Finding]:
    used = {segment for segment, _ in commits}
    segments = used | {
        int(place[4:].partition("/")[0])
        for place in files
        if place.startswith("seg-") and place[4:].partition("/")[0].isdecimal()
    }
    yield from (
        _finding(*flaw)
        for flaw in chain(
            root_flaws(root),
            segment_flaws(root, segments, used),
            () if quick else claim_flaws(root, commits),
            pin_flaws(root),
        )
    )


def _block_findings(
    commit: BlockCommit, flaws: Iterable[PlacedFlaw], replacements: Replacements
) -> Iterator[Finding]:
    """What is wrong with files that no version asks for that is kept is told as a notice."""
    place = (commit.segment, commit.block)
    gone = {
        clip.outcome.clip_id
        for clip in commit.clips
        if clip.slot == NO_SLOT
        or (
            replacements.replaced(place, clip.outcome.clip_id)
            and not replacements.pinned(place, clip.outcome.clip_id)
        )
    }
    all_gone = len(gone) == len(commit.clips)
    for flaw, file, clip_id in flaws:
        if clip_id not in gone and not (clip_id is None and all_gone):
            yield _finding(*flaw[:2], file, flaw.message, clip_id)
        elif flaw.code != "missing":
            what = f"{flaw.message}; a later block replaces it"
            yield _finding("notice", "replaced", file, what, clip_id)


def _manifest_findings(root: StoreRoot, commits: Mapping[Block, BlockCommit]) -> Iterator[Finding]:
    flaws = list(manifest_flaws(root))
    for flaw in flaws:
        yield _finding("error", "manifest", *flaw)
    try:
        manifest = read_manifest(root)
    except StoreOlder as error:
        yield _finding("error", "manifest", CURRENT_KEY, str(error))
        return
    except CorruptStore as error:
        place = _place(error, root.storage.location)
        if place not in {flaw.place for flaw in flaws}:
            yield _finding("error", "manifest", place, str(error))
        return
    place = f"manifest version {manifest.version.number}"
    blocks, folded = root.layout.segment_blocks, manifest.version.blocks
    known = BlockRuns.of(segment * blocks + block for segment, block in commits)
    for address in (address for address in folded if address not in known):
        segment, block = divmod(address, blocks)
        what = f"the commit of block {segment}.{block} is missing"
        yield _finding("error", "commit", place, what)
    unfolded = sum(address not in folded for address in known)
    if unfolded:
        what = f"{unfolded} blocks are committed, but not yet in the manifest; compact the store"
        yield _finding("notice", "not-compacted", place, what)
    if not flaws:
        for flaw in total_flaws(manifest):
            yield _finding("error", "manifest", *flaw)
        yield from _row_findings(manifest, commits, blocks, place)


def _row_findings(
    manifest: Manifest, commits: Mapping[Block, BlockCommit], segment_blocks: int, place: str
) -> Iterator[Finding]:
    told = {
        (segment, block, clip.outcome.clip_id): (clip, commit)
        for (segment, block), commit in commits.items()
        for clip in commit.clips
    }
    missing = {
        clip_id
        for segment, block, clip_id in told
        if segment * segment_blocks + block in manifest.version.blocks
    }
    for table in manifest.tables():
        for row in table.to_pylist():
            clip_id, block = row["clip_id"], (row["segment"], row["block"])
            missing.discard(clip_id)
            found = told.get((*block, clip_id))
            if found is None and block in commits:
                yield _finding("error", "manifest", place, "names a block without it", clip_id)
            if found is not None and not _same(row, *found):
                what = "tells otherwise than its commit"
                yield _finding("error", "manifest", place, what, clip_id)
    for clip_id in sorted(missing):
        yield _finding("error", "manifest", place, "has no row of a committed clip", clip_id)


def _same(row: Mapping[str, object], clip: CommittedClip, commit: BlockCommit) -> bool:
    expected = (
        clip.slot,
        clip.patch.digest if clip.patch else "",
        commit.cls.digest if commit.cls and clip.slot != NO_SLOT else "",
        commit.replaces,
    )
    given = (row["slot"], row["patch_digest"], row["cls_digest"], row["replaces"])
    return given == expected and row_outcome(row) == clip.outcome


def _left_over(
    root: StoreRoot, commits: Mapping[Block, BlockCommit], files: Sequence[str]
) -> Iterator[Finding]:
    layout = root.layout
    known: set[str] = set()
    for commit in commits.values():
        slots = [clip.slot for clip in commit.clips if clip.slot != NO_SLOT]
        for slot in slots:
            known.update(layout.clip_files(commit.segment, slot))
        if slots:
            known.update(layout.block_files(commit.segment, commit.block))
    for place in files:
        folder, _, name = place.rpartition("/")
        if name.startswith(TEMPORARY_PREFIX):
            yield _finding("notice", "temporary", place, "is left of a write that did not finish")
        elif name.startswith("c.") and place not in known:
            what = "belongs to no commit: its block is being written, or was abandoned"
            yield _finding("notice", "uncommitted", place, what)
        elif folder == CLAIMS and parse_record_name(name) not in commits:
            what = "is a claim without a commit: work in progress, or of a job that died"
            yield _finding("notice", "claimed", place, what)


def _place(error: CorruptStore, location: str) -> str:
    return (error.file or location).removeprefix(location).lstrip("/")


def _finding(
    severity: Severity, code: str, place: str, message: str, clip_id: str | None = None
) -> Finding:
    return Finding(severity=severity, code=code, place=place, clip_id=clip_id, message=message)
