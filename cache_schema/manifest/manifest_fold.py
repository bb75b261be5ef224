"""Folding commits into the next version of the manifest, at a cost that depends on the new rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import pyarrow as pa

from cache_schema.blocks.block_claim import record_name
from cache_schema.blocks.block_commit import BlockCommit, CommittedClip, read_commit
from cache_schema.blocks.commit_listing import unfolded_blocks
from cache_schema.manifest.manifest_index import ManifestIndex
from cache_schema.manifest.manifest_row import Standing, rows_table, standing, supersedes
from cache_schema.manifest.manifest_version import (
    ManifestVersion,
    base_version,
    point_current,
    publish_version,
    version_numbers,
)
from cache_schema.manifest.part_entry import index_key, parquet_key
from cache_schema.manifest.part_merge import merge_from, merge_parts
from cache_schema.manifest.part_writer import NewPart, PartWriter
from cache_schema.store_root import StoreRoot

CLIPS_AT_ONCE: Final = 32768
"""A fold takes in so many clips before it makes a version; more are taken in by the next one."""

Row = tuple[BlockCommit, CommittedClip]


def fold_commits(root: StoreRoot) -> int:
    """Folds all commits into new versions of the manifest, and returns the newest version.

    Any number of processes may fold at once: a version is created exclusively, and who comes second
    starts again from the version that won. Without new commits there is no new version.

    Raises:
        CorruptStore: a commit or the manifest is damaged.
    """
    while True:
        base = base_version(root)
        addresses = unfolded_blocks(root, base.blocks)
        if not addresses:
            if base.parts or base.blocks.end:
                point_current(root.storage, base.number)
            return base.number
        _fold_some(root, base, addresses)


def fold_anew(root: StoreRoot) -> int:
    """Makes the next version from all commits, as if none were folded yet; returns its number.

    For a manifest that is damaged: nothing of it is read but the numbers of its versions. Readers see
    one new version, whole. Other compactors may work at the same time.

    Raises:
        CorruptStore: a commit is damaged.
    """
    while True:
        newest = max(version_numbers(root.storage), default=0)
        version, made = ManifestVersion(number=newest), list[str]()
        while addresses := unfolded_blocks(root, version.blocks):
            version, part = _next_version(root, version, addresses)
            version = replace(version, number=newest)
            if part is not None:
                part.store(root.storage)
                made.append(part.entry.name)
        published = publish_version(root, replace(version, number=newest + 1))
        kept = {part.name for part in version.parts} if published else set()
        for name in set(made) - kept:
            for key in (parquet_key(name), index_key(name)):
                root.storage.delete(key)
        if published:
            return newest + 1


def _fold_some(root: StoreRoot, base: ManifestVersion, addresses: Sequence[int]) -> None:
    """Makes the version after ``base`` from as many commits as one fold takes."""
    version, part = _next_version(root, base, addresses)
    if part is not None:
        part.store(root.storage)
    if not publish_version(root, version) and part is not None:
        # Another compactor was first. The part is in no version, and its name is used by no one else.
        for key in part.entry.keys:
            root.storage.delete(key)


def _next_version(
    root: StoreRoot, base: ManifestVersion, addresses: Sequence[int]
) -> tuple[ManifestVersion, NewPart | None]:
    """Returns the version after ``base``, and its part that is not stored yet."""
    index = ManifestIndex(root.storage, base.parts, root.layout.block_slots)
    taken: list[int] = []
    entries: list[Row] = []
    for address, commit in _commits(root, addresses):
        taken.append(address)
        entries.extend((commit, clip) for clip in commit.clips)
    found = index.find([clip.outcome.clip_id for _, clip in entries])
    segment_blocks = root.layout.segment_blocks
    rows, clips, ok = _winners(segment_blocks, entries, found.standings(segment_blocks))
    part, kept = _new_part(index, rows)
    version = ManifestVersion(
        number=base.number + 1,
        blocks=base.blocks.union(taken),
        clips=base.clips + clips,
        ok=base.ok + ok,
        parts=(*base.parts[:kept], *([part.entry] if part else [])),
    )
    return version, part


def _commits(root: StoreRoot, addresses: Sequence[int]) -> Iterator[tuple[int, BlockCommit]]:
    clips = 0
    for address in addresses:
        name = record_name(*divmod(address, root.layout.segment_blocks))
        commit = read_commit(root.storage, name)
        yield address, commit
        clips += len(commit.clips)
        if clips >= CLIPS_AT_ONCE:
            return


def _winners(
    segment_blocks: int, entries: Sequence[Row], folded: Sequence[Standing | None]
) -> tuple[list[Row], int, int]:
    """Returns the rows that count from now on, and by how many clips and ok clips there are more.

    Args:
        segment_blocks: blocks of a segment.
        entries: clips of new commits, in the order of their addresses.
        folded: what the base has of the same clips.
    """
    held: dict[str, Standing] = {}
    winners: dict[str, Row] = {}
    clips = ok = 0
    for (commit, clip), base in zip(entries, folded, strict=True):
        clip_id, new = clip.outcome.clip_id, standing(commit, clip, segment_blocks)
        if clip_id not in held and base is not None:
            held[clip_id] = base
        before = held.get(clip_id)
        if before is None or supersedes(new, before):
            clips += before is None
            ok += new.ok - (before is not None and before.ok)
            held[clip_id], winners[clip_id] = new, (commit, clip)
    return list(winners.values()), clips, ok


def _new_part(index: ManifestIndex, rows: Sequence[Row]) -> tuple[NewPart | None, int]:
    """Returns the part of a new version, and how many parts of the base stay before it."""
    count = len(index.parts)
    if not rows:
        return None, count
    table: pa.Table = rows_table(rows).sort_by("clip_id")
    begin = merge_from([*(part.entry.rows for part in index.parts), table.num_rows])
    if begin < count:
        return merge_parts(index.parts[begin:], table), begin
    writer = PartWriter()
    writer.write(table)
    return writer.finish(), count
