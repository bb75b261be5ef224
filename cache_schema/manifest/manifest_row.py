"""The rows of the manifest: their columns, and which of several rows of one clip counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Final, NamedTuple

import pyarrow as pa

from cache_schema.blocks.block_commit import NO_SLOT, BlockCommit, CommittedClip
from cache_schema.outcome import ClipOutcome, Status

_LOSS: Final = pa.struct(
    [
        ("tokens", pa.int64()),
        ("reference_patches", pa.int32()),
        ("max_abs", pa.float64()),
        ("error_squares", pa.float64()),
        ("source_squares", pa.float64()),
        ("cosine_sum", pa.float64()),
        ("min_cosine", pa.float64()),
    ]
)
"""The fields of ``MeasuredLoss``."""

SCHEMA: Final = pa.schema(
    [
        ("clip_id", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("segment", pa.int32()),
        ("block", pa.int32()),
        ("slot", pa.int32()),
        ("replaces", pa.bool_()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("frame_index", pa.list_(pa.int32())),
        ("frame_time", pa.list_(pa.float64())),
        ("distinct_frames", pa.int32()),
        ("source_path", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_digest", pa.string()),
        ("backend", pa.string()),
        ("flags", pa.list_(pa.string())),
        ("loss", _LOSS),
        ("cls_digest", pa.string()),
        ("patch_digest", pa.string()),
        ("committed", pa.timestamp("us", tz="UTC")),
    ]
)
"""Columns of a manifest. ``slot`` is -1 and the digests are empty for a clip that failed."""

OUTCOME_COLUMNS: Final = tuple(field.name for field in fields(ClipOutcome))
"""The columns that tell a clip's outcome."""

# As Python lists, a row's frame numbers and times are ten times as large as in a table.
_ROWS_AT_ONCE: Final = 1024


class Standing(NamedTuple):
    """What decides between two rows of one clip."""

    address: int
    """Address of the block that told the row."""
    ok: bool
    replaces: bool


def supersedes(new: Standing, held: Standing) -> bool:
    """Tells whether a row takes the place of the one that readers have seen, or that came before.

    A commit that replaces wins over all lower addresses. Otherwise ok goes before failed, an ok row
    stays where it is, and of two failures the higher address, the later attempt, stays. Commits that
    are new together are taken in the order of their addresses, so of two ok the lower one stays.
    """
    if new.replaces and new.address > held.address:
        return True
    if held.replaces and held.address > new.address:
        return False
    if new.ok != held.ok:
        return new.ok
    return not new.ok and new.address > held.address


def rows_table(rows: Sequence[tuple[BlockCommit, CommittedClip]]) -> pa.Table:
    """Returns the rows of some committed clips, in the order given."""
    tables = [SCHEMA.empty_table()]
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = [_row(*row) for row in rows[start : start + _ROWS_AT_ONCE]]
        tables.append(pa.Table.from_pylist(some, SCHEMA))
    return pa.concat_tables(tables)


def row_outcome(row: Mapping[str, object]) -> ClipOutcome:
    """Returns the outcome that a manifest row tells."""
    return ClipOutcome.from_json({name: row[name] for name in OUTCOME_COLUMNS})


def empty_table(columns: Iterable[str] | None = None) -> pa.Table:
    """Returns a manifest without rows, with all columns or chosen ones."""
    names = SCHEMA.names if columns is None else columns
    return pa.schema([SCHEMA.field(name) for name in names]).empty_table()


def _row(commit: BlockCommit, clip: CommittedClip) -> dict[str, object]:
    present = clip.slot != NO_SLOT
    return {
        **clip.outcome.to_json(),
        "segment": commit.segment,
        "block": commit.block,
        "slot": clip.slot,
        "replaces": commit.replaces,
        "cls_digest": commit.cls.digest if present and commit.cls else "",
        "patch_digest": clip.patch.digest if clip.patch else "",
        "committed": datetime.fromisoformat(commit.committed),
    }


def standing(commit: BlockCommit, clip: CommittedClip, segment_blocks: int) -> Standing:
    """Returns what a committed clip's row stands for against other rows of the clip."""
    return Standing(
        address=commit.segment * segment_blocks + commit.block,
        ok=clip.outcome.status is Status.OK,
        replaces=commit.replaces,
    )
