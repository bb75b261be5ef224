"""Verifying a whole store: everything that is damaged, doubtful or left over, none of it repaired."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

import pyarrow as pa

from cache_schema.block_claim import parse_record_name
from cache_schema.block_commit import NO_SLOT, BlockCommit, read_commit
from cache_schema.durable_files import TEMPORARY_PREFIX
from cache_schema.errors import CorruptStore
from cache_schema.layout import CLAIMS, COMMITS
from cache_schema.manifest import Manifest, read_manifest, row_outcome
from cache_schema.outcome import Status
from cache_schema.shard_audit import Severity, feature_flaws, length_flaws, read_features
from cache_schema.store_root import StoreRoot, array_problems, read_root

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
            the digest and every checksum, and look at every feature: NaN, infinity, constant
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
    findings.extend(_segment_findings(root, commits, files))
    findings.extend(_manifest_findings(root, commits))
    done, total = 0, sum(len(commit.clips) for commit in commits.values())
    for commit in commits.values():
        findings.extend(_block_findings(root, commit, quick=quick))
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


def _segment_findings(
    root: StoreRoot, commits: Mapping[Block, BlockCommit], files: Sequence[str]
) -> Iterator[Finding]:
    segments = {segment for segment, _ in commits} | {
        int(place[4:].partition("/")[0])
        for place in files
        if place.startswith("seg-") and place[4:].partition("/")[0].isdecimal()
    }
    for segment in sorted(segments):
        for problem in array_problems(root.storage, segment, root.layout):
            yield _finding("error", "metadata", problem.path.partition(":")[0], str(problem))


def _manifest_findings(root: StoreRoot, commits: Mapping[Block, BlockCommit]) -> Iterator[Finding]:
    try:
        manifest = read_manifest(root)
    except CorruptStore as error:
        place = _place(error, root.storage.location)
        yield _finding("error", "manifest", place, str(error))
        return
    place = f"manifest version {manifest.version}"
    for segment, block in sorted(manifest.folded - commits.keys()):
        yield _finding(
            "error", "commit", place, f"the commit of block {segment}.{block} is missing"
        )
    unfolded = len(commits.keys() - manifest.folded)
    if unfolded:
        what = f"{unfolded} blocks are committed, but not yet in the manifest; compact the store"
        yield _finding("notice", "not-compacted", place, what)
    yield from _row_findings(manifest, commits, place)


def _row_findings(
    manifest: Manifest, commits: Mapping[Block, BlockCommit], place: str
) -> Iterator[Finding]:
    told = {
        (segment, block, clip.outcome.clip_id): (clip, commit)
        for (segment, block), commit in commits.items()
        for clip in commit.clips
    }
    ids = set(manifest.table.column("clip_id").to_pylist())
    folded = {key[2] for key in told if key[:2] in manifest.folded}
    for clip_id in sorted(folded - ids):
        yield _finding("error", "manifest", place, "has no row of a committed clip", clip_id)
    for row in _rows(manifest.table):
        clip_id = str(row["clip_id"])
        found = told.get((row["segment"], row["block"], clip_id))  # type: ignore[arg-type]
        if found is None:
            if (row["segment"], row["block"]) in commits:
                yield _finding("error", "manifest", place, "names a block without it", clip_id)
            continue
        clip, commit = found
        expected = (
            clip.slot,
            clip.patch.digest if clip.patch else "",
            commit.cls.digest if commit.cls and clip.slot != NO_SLOT else "",
        )
        given = (row["slot"], row["patch_digest"], row["cls_digest"])
        if given != expected or row_outcome(row) != clip.outcome:
            yield _finding("error", "manifest", place, "tells otherwise than its commit", clip_id)


def _rows(table: pa.Table) -> Iterator[dict[str, object]]:
    for batch in table.to_batches(max_chunksize=4096):
        yield from batch.to_pylist()


def _block_findings(root: StoreRoot, commit: BlockCommit, *, quick: bool) -> Iterator[Finding]:
    layout = root.layout
    ok = [clip for clip in commit.clips if clip.outcome.status is Status.OK]
    for clip in ok:
        place, clip_id = layout.patch_file(commit.segment, clip.slot), clip.outcome.clip_id
        shape = layout.patch_shard
        flaws = length_flaws(root.storage, place, clip.patch, shape, layout.frames)
        if not flaws and not quick:
            flaws, features = read_features(root.storage, place, clip.patch, shape, layout.frames)
            flaws += feature_flaws(features.reshape(-1, layout.patches, layout.dim))
        yield from (_finding(*flaw[:2], place, flaw[2], clip_id) for flaw in flaws)
    if not ok:
        return
    place, shape = layout.cls_file(commit.segment, commit.block), layout.cls_shard
    flaws = length_flaws(root.storage, place, commit.cls, shape, len(ok))
    if not flaws and not quick:
        flaws, features = read_features(root.storage, place, commit.cls, shape, len(ok))
        for clip in ok[: len(features)]:
            frames = features[clip.slot % layout.block_slots].reshape(-1, 1, layout.dim)
            clip_id = clip.outcome.clip_id
            yield from (_finding(*f[:2], place, f[2], clip_id) for f in feature_flaws(frames))
    yield from (_finding(*flaw[:2], place, flaw[2]) for flaw in flaws)


def _left_over(
    root: StoreRoot, commits: Mapping[Block, BlockCommit], files: Sequence[str]
) -> Iterator[Finding]:
    layout = root.layout
    known: set[str] = set()
    for commit in commits.values():
        slots = [clip.slot for clip in commit.clips if clip.slot != NO_SLOT]
        known.update(layout.patch_file(commit.segment, slot) for slot in slots)
        if slots:
            known.add(layout.cls_file(commit.segment, commit.block))
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
