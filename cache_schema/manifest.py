"""The manifest: one row per clip, folded from the commits into versions that readers pin."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from cache_schema import field_rules
from cache_schema.block_claim import parse_record_name, record_name
from cache_schema.block_commit import NO_SLOT, BlockCommit, CommittedClip, read_commit
from cache_schema.errors import CorruptStore, InputError
from cache_schema.field_rules import check_fields
from cache_schema.layout import COMMITS, MANIFEST
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.parquet_table import encode_table
from cache_schema.sealed_json import seal, unseal
from cache_schema.storage import Storage
from cache_schema.store_root import StoreRoot

CURRENT: Final = "CURRENT"
_CURRENT_KEY: Final = f"{MANIFEST}/{CURRENT}"

SCHEMA: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("segment", pa.int32()),
        ("block", pa.int32()),
        ("slot", pa.int32()),
        ("frame_index", pa.list_(pa.int32())),
        ("frame_time", pa.list_(pa.float64())),
        ("distinct_frames", pa.int32()),
        ("source_path", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_digest", pa.string()),
        ("backend", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("cls_digest", pa.string()),
        ("patch_digest", pa.string()),
        ("committed", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of a manifest. ``slot`` is -1 and the digests are empty for a clip that failed."""

_OUTCOME_COLUMNS: Final = (
    "clip_id", "status", "reason", "detail", "frame_index", "frame_time", "distinct_frames",
    "source_path", "source_bytes", "source_digest", "backend", "flags",
)  # fmt: skip
_CURRENT_RULES: Final = {
    "version": field_rules.integer(least=1),
    "digests": field_rules.sequence(field_rules.text(pattern="[0-9a-f]{32}")),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """One version of the manifest."""

    version: int
    """0 for a store of which nothing was folded yet."""
    table: pa.Table
    """One row per clip, sorted by clip id; ``SCHEMA``, or the columns asked for."""
    folded: frozenset[tuple[int, int]]
    """The blocks (segment, block) whose commits the version has taken in."""


def current_version(storage: Storage) -> int:
    """Returns the newest version of a store's manifest, 0 where there is none.

    CURRENT is where the search starts. A version exists once its file does, so a compactor that
    died, or was overtaken, between its two steps leaves nothing to repair.

    Raises:
        CorruptStore: CURRENT is damaged, or names a version that is missing.
    """
    version = len(_read_current(storage))
    if version and not storage.exists(manifest_key(version)):
        file = storage.name(manifest_key(version))
        raise CorruptStore(
            f"{storage.name(_CURRENT_KEY)} names version {version}, whose file is missing; restore "
            f"{file} from a backup.",
            file=file,
        )
    while storage.exists(manifest_key(version + 1)):
        version += 1
    return version


def read_manifest(
    root: StoreRoot, version: int | None = None, columns: Sequence[str] | None = None
) -> Manifest:
    """Reads one version of a store's manifest, by default the newest.

    Args:
        root: the store.
        version: the version to read.
        columns: columns to decode; all by default.

    Raises:
        InputError: there is no such version.
        CorruptStore: the manifest is damaged, or belongs to another store.
    """
    newest = current_version(root.storage)
    if version is None:
        version = newest
    if not 0 <= version <= newest:
        raise InputError(
            f"The store {root.storage.location} has no manifest version {version}; it has 0 to {newest}."
        )
    names = list(columns) if columns is not None else SCHEMA.names
    if version == 0:
        schema = pa.schema([SCHEMA.field(name) for name in names])
        return Manifest(version=0, table=schema.empty_table(), folded=frozenset())
    file = root.storage.name(manifest_key(version))
    content = _read_checked(root.storage, version)
    try:
        parquet = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        table = parquet.read(columns=names).cast(pa.schema([SCHEMA.field(name) for name in names]))
        metadata = parquet.schema_arrow.metadata or {}
        blocks = _decode_blocks(metadata[b"blocks"])
        written = (metadata[b"identity"].decode(), int(metadata[b"version"]))
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise CorruptStore(
            f"{file} is damaged: {error}. Restore it from a backup.", file=file
        ) from error
    if written != (root.identity.digest, version):
        raise CorruptStore(
            f"{file} is version {written[1]} of identity {written[0][:12]}, not version {version} of "
            f"{root.identity.digest[:12]}; it was moved here from another store.",
            file=file,
        )
    return Manifest(version=version, table=table, folded=blocks)


def fold_commits(root: StoreRoot) -> int:
    """Folds all commits into a new version of the manifest, and returns the newest version.

    Any number of processes may fold at once: a version is created exclusively, and who comes second
    starts again from the version that won. Without new commits there is no new version.

    Raises:
        CorruptStore: a commit or the manifest is damaged.
    """
    storage = root.storage
    while True:
        base = read_manifest(root)
        names = [parse_record_name(name) for name in storage.names(COMMITS)]
        new = sorted(name for name in names if name is not None and name not in base.folded)
        if not new:
            if base.version:
                _point_current(storage, base.version)
            return base.version
        commits = [read_commit(storage, record_name(*place)) for place in new]
        version = base.version + 1
        metadata = {
            "identity": root.identity.digest,
            "version": str(version),
            "blocks": _encode_blocks(base.folded | set(new)),
        }
        content = encode_table(_fold(base.table, commits), "manifest", metadata)
        if storage.create(manifest_key(version), content):
            _point_current(storage, version)
            return version


def manifest_key(version: int) -> str:
    """Returns the place of one version of the manifest."""
    return f"{MANIFEST}/v{version:06d}.parquet"


def row_outcome(row: Mapping[str, object]) -> ClipOutcome:
    """Returns the outcome that a manifest row tells."""
    return ClipOutcome.from_json({name: row[name] for name in _OUTCOME_COLUMNS})


def _fold(base: pa.Table, commits: Iterable[BlockCommit]) -> pa.Table:
    """One row per clip: ok before failed; of two ok the one folded first, then the lower block.

    Of two failures the later attempt stays, which is the higher block.
    """
    statuses = dict(
        zip(base.column("clip_id").to_pylist(), base.column("status").to_pylist(), strict=True)
    )
    rows: dict[str, dict[str, object]] = {}
    for commit in commits:
        for clip in commit.clips:
            clip_id = clip.outcome.clip_id
            found = rows[clip_id]["status"] if clip_id in rows else statuses.get(clip_id)
            if found != Status.OK:
                rows[clip_id] = _row(commit, clip)
    kept = base.filter(pa.array([clip_id not in rows for clip_id in statuses], pa.bool_()))
    added = pa.Table.from_pylist(list(rows.values()), SCHEMA)
    return pa.concat_tables([kept, added]).sort_by("clip_id")


def _row(commit: BlockCommit, clip: CommittedClip) -> dict[str, object]:
    present = clip.slot != NO_SLOT
    return {
        **clip.outcome.to_json(),
        "segment": commit.segment,
        "block": commit.block,
        "slot": clip.slot,
        "cls_digest": commit.cls.digest if present and commit.cls else "",
        "patch_digest": clip.patch.digest if clip.patch else "",
        "committed": datetime.fromisoformat(commit.committed),
    }


def _read_current(storage: Storage) -> list[str]:
    """Returns the digests of versions 1 to the one that CURRENT names; none without CURRENT."""
    file = storage.name(_CURRENT_KEY)
    try:
        document = unseal(storage.read(_CURRENT_KEY), file)
    except FileNotFoundError:
        return []
    if problems := check_fields(document, _CURRENT_RULES):
        raise CorruptStore(f"{file}: {problems[0]}; restore it from a backup.", file=file)
    return cast("list[str]", document["digests"])


def _point_current(storage: Storage, version: int) -> None:
    digests = _read_current(storage)
    if len(digests) < version:
        for number in range(len(digests) + 1, version + 1):
            digests.append(_digest(storage.read(manifest_key(number))))
        pointer = {"version": version, "digests": digests}
        storage.replace(_CURRENT_KEY, seal(pointer))


def _read_checked(storage: Storage, version: int) -> bytes:
    content = storage.read(manifest_key(version))
    digests = _read_current(storage)
    if version <= len(digests) and digests[version - 1] != _digest(content):
        file = storage.name(manifest_key(version))
        raise CorruptStore(
            f"{file} does not have the digest {digests[version - 1]} that {CURRENT} tells; restore it "
            f"from a backup.",
            file=file,
        )
    return content


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _encode_blocks(blocks: Iterable[tuple[int, int]]) -> str:
    """Writes blocks as runs [segment, first, last]: nearly all of a segment's blocks are folded."""
    runs: list[list[int]] = []
    for segment, block in sorted(blocks):
        if runs and runs[-1][0] == segment and runs[-1][2] == block - 1:
            runs[-1][2] = block
        else:
            runs.append([segment, block, block])
    return json.dumps(runs, separators=(",", ":"))


def _decode_blocks(text: bytes) -> frozenset[tuple[int, int]]:
    return frozenset(
        (segment, block)
        for segment, first, last in json.loads(text)
        for block in range(first, last + 1)
    )
