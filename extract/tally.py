"""The end of a job in numbers, and the list of clips that failed."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cache_schema import Status, StoreAbsent, open_store
from cache_schema.storage.durable_files import replace_file
from extract.block_records import BlockReport
from extract.plan import ExtractionPlan

FAILURE_COLUMNS: Final = ("clip_id", "reason", "detail", "source_path")

# A spreadsheet would run a cell that begins like this as a formula.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One clip without features."""

    clip_id: str
    reason: str
    detail: str
    source_path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What became of the clips of a job; ``ok``, ``failed``, ``skipped`` and ``left`` add up."""

    ok: int
    """Extracted by this job."""
    failed: int
    """Tried by this job and failed, with a reason in the store."""
    skipped: int
    """Already in the store, extracted or failed, or in the hands of another job."""
    left: int = 0
    """Not done because the job was stopped."""
    failed_before: int = 0
    """Those of the skipped that have failed earlier."""
    elsewhere: int = 0
    """Those of the skipped that another running job has in hand."""
    frames: int = 0
    """Frames that went through the encoder."""
    seconds: float = 0.0
    """Wall-clock time of the job."""
    decode_wait: float = 0.0
    """Seconds that blocks waited for decoded frames, over all workers."""
    encode: float = 0.0
    """Seconds that blocks spent in the encoder."""
    write: float = 0.0
    """Seconds that blocks spent writing."""
    failures: tuple[Failure, ...] = field(default=())
    """The clips asked for that have no features, this job's and earlier ones."""

    @property
    def exit_code(self) -> int:
        """0 if every clip asked for has features or is in other hands, 1 otherwise."""
        return 1 if self.failures or self.left else 0

    def __str__(self) -> str:
        parts = [f"{self.ok} extracted", f"{self.failed} failed", f"{self.skipped} skipped"]
        if self.failed_before:
            parts[-1] += f" ({self.failed_before} failed earlier)"
        if self.elsewhere:
            parts.append(f"{self.elsewhere} of those in the hands of another job")
        if self.left:
            parts.append(f"{self.left} left; run the same command to continue")
        rate = f", {self.frames / self.seconds:.0f} frames/s" if self.frames else ""
        return f"{', '.join(parts)}; {self.seconds:.1f} s{rate}"


def tally_of(
    plan: ExtractionPlan,
    *,
    clip_ids: Sequence[str],
    location: str | os.PathLike[str],
    reports: Sequence[BlockReport],
    seconds: float,
) -> Tally:
    """Counts what became of a job's clips.

    The store alone knows what was committed: a worker may die between its commit and its report.

    Args:
        plan: the job as it began.
        clip_ids: the clips asked for.
        location: the store; may be absent if nothing was to be done.
        reports: of the blocks; of clips that had failed before they tell whether those were tried.
        seconds: wall-clock time of the job.
    """
    failures, ok_ids = _outcomes(location, set(clip_ids))
    reported = {clip_id for report in reports for clip_id in report.clip_ids}
    # A clip may come to this job late, when the other job that had it in hand has died.
    ours = set(plan.pending) | reported
    ok = len(ok_ids & ours)
    failed = sum(failure.clip_id in ours - (plan.retried - reported) for failure in failures)
    ended = ok_ids | {failure.clip_id for failure in failures}
    return Tally(
        ok=ok,
        failed=failed,
        skipped=len(clip_ids) - len(ours),
        left=len(ours) - ok - failed,
        failed_before=len(failures) - failed,
        elsewhere=len(set(clip_ids) - ours - ended),
        frames=sum(report.frames for report in reports),
        seconds=seconds,
        decode_wait=sum(report.decode_wait for report in reports),
        encode=sum(report.encode for report in reports),
        write=sum(report.write for report in reports),
        failures=failures,
    )


def _outcomes(
    location: str | os.PathLike[str], wanted: set[str]
) -> tuple[tuple[Failure, ...], set[str]]:
    columns = ["clip_id", "status", *FAILURE_COLUMNS[1:]]
    try:
        manifest = open_store(location).manifest(columns)
    except StoreAbsent:
        return (), set()
    rows = [row for row in manifest.to_pylist() if row["clip_id"] in wanted]
    ok = {row["clip_id"] for row in rows if row["status"] == Status.OK}
    failures = [
        Failure(**{column: row[column] for column in FAILURE_COLUMNS})
        for row in rows
        if row["status"] == Status.FAILED
    ]
    return tuple(failures), ok


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Writes the list of failed clips as CSV, or removes an old one when none failed.

    Args:
        path: the file; its folder must exist.
        failures: the clips.
    """
    if not failures:
        path.unlink(missing_ok=True)
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(FAILURE_COLUMNS)
    for failure in failures:
        cells = (getattr(failure, column) for column in FAILURE_COLUMNS)
        writer.writerow(
            [f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell for cell in cells]
        )
    replace_file(path, text.getvalue().encode())
