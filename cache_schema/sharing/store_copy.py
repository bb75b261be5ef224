"""Copying clips from stores into another of the same identity: verified, resumable, write-once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from os import PathLike
from typing import Final, NamedTuple

import numpy as np

from cache_schema.errors import CorruptStore, StoreAbsent, StoreBusy
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.reader import FeatureStore, Float16, open_store
from cache_schema.sharing.clip_digest import patch_digest
from cache_schema.sharing.copy_plan import ClipConflict, CopyPlan, plan_copy
from cache_schema.sharing.feature_equality import clip_records
from cache_schema.store_root import create_store
from cache_schema.writer import StoreWriter

_BLOCKS_PER_COMPACTION: Final = 64


class DamagedClip(NamedTuple):
    """A clip that could not be copied because its source is damaged."""

    clip_id: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyReport:
    """What became of every clip that was to be copied."""

    copied: tuple[str, ...]
    """Clips that this run copied with their features."""
    failed: tuple[str, ...]
    """Clips that failed in extraction, whose failure was copied."""
    present: int
    """Clips that the target held before."""
    missing: tuple[str, ...]
    """Clips asked for that no source knows."""
    damaged: tuple[DamagedClip, ...]
    conflicts: tuple[ClipConflict, ...]
    """Clips that differ from the source's when the finished target is looked at."""
    left: tuple[str, ...]
    """Clips still to be done: another job had them in hand and did not come to an end."""
    version: int
    """Manifest version of the target that shows the result."""

    @property
    def complete(self) -> bool:
        """Whether the target now tells of every clip asked for what its source does."""
        return not (self.missing or self.damaged or self.conflicts or self.left)


def copy_clips(
    sources: Sequence[FeatureStore],
    target: str | PathLike[str],
    clip_ids: Iterable[str] | None = None,
    *,
    on_clip: Callable[[int, int], None] | None = None,
) -> CopyReport:
    """Copies clips, features and failures alike, into a store that is created if absent.

    What is read must have the digest of the source's manifest before it is written, and what was
    written is compared with the sources at the end. May be stopped or killed at any time and run
    again: what was committed is kept. Several jobs may copy into one store.

    Args:
        sources: stores of one identity, opened with their checksums on; which one a clip comes from
            says ``plan_copy``.
        target: the store to copy into.
        clip_ids: the clips; all of the sources by default.
        on_clip: called with the number of clips done and the number to do.

    Raises:
        InputError: there is no source, or too little room on the disk.
        IdentityMismatch: the stores are not of one identity.
        StoreError: stores disagree about a clip; nothing was copied. Or as ``open_store``.
        OSError: the target cannot be written.
    """
    clip_ids = None if clip_ids is None else list(clip_ids)
    _show_committed(target, sources)
    plan = plan_copy(sources, target, clip_ids)
    plan.require_agreement()
    plan.require_room()
    layout = plan.layout
    create_store(
        target,
        sources[0].identity,
        block_slots=layout.block_slots,
        segment_slots=layout.segment_slots,
    )
    copy = _Copy(sources, target, plan, on_clip)
    copy.run()
    after = plan_copy(sources, target, clip_ids)
    damaged = {clip.clip_id for clip in copy.damaged}
    return CopyReport(
        copied=tuple(copy.copied),
        failed=tuple(copy.failed),
        present=len(plan.present),
        missing=plan.missing,
        damaged=tuple(copy.damaged),
        conflicts=after.conflicts,
        left=tuple(clip for clip in after.take if clip not in damaged),
        version=open_store(target).version,
    )


class _Rows(NamedTuple):
    """Clips as they were read, and as they are to be written."""

    asked: int
    """Clips that were to be read; fewer are there where some are damaged."""
    outcomes: list[ClipOutcome]
    cls: Float16
    patch: Float16


class _Copy:
    """One run over the clips of a plan."""

    def __init__(
        self,
        sources: Sequence[FeatureStore],
        target: str | PathLike[str],
        plan: CopyPlan,
        on_clip: Callable[[int, int], None] | None,
    ) -> None:
        self._sources = sources
        self._digests = [
            {clip_id: record.patch_digest for clip_id, record in clip_records(source).items()}
            for source in sources
        ]
        self._target = target
        self._plan = plan
        self._on_clip = on_clip
        self._done = 0
        self.copied: list[str] = []
        self.failed: list[str] = []
        self.damaged: list[DamagedClip] = []

    def run(self) -> None:
        """Copies block by block; the next one is read while one is written."""
        with (
            StoreWriter(self._target, self._sources[0].identity) as writer,
            ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-copy") as reading,
        ):
            try:
                for number, rows in enumerate(self._read_ahead(reading), start=1):
                    self._write(writer, rows)
                    if number % _BLOCKS_PER_COMPACTION == 0:
                        writer.compact()
            finally:
                with suppress(OSError):
                    writer.compact()

    def _read_ahead(self, reading: ThreadPoolExecutor) -> Iterator[_Rows]:
        waiting = deque[Future[_Rows]]()
        for source, clip_ids in self._blocks():
            waiting.append(reading.submit(self._read, source, clip_ids))
            if len(waiting) > 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _blocks(self) -> Iterator[tuple[int, list[str]]]:
        slots = self._plan.layout.block_slots
        for source, group in groupby(self._plan.take.items(), key=lambda item: item[1]):
            clip_ids = [clip_id for clip_id, _ in group]
            for start in range(0, len(clip_ids), slots):
                yield source, clip_ids[start : start + slots]

    def _read(self, number: int, clip_ids: Sequence[str]) -> _Rows:
        """Reads clips of one source; those that are damaged there are listed, and left out."""
        source, layout = self._sources[number], self._plan.layout
        # Those with features first, so that their rows are one array to read into.
        outcomes = source.outcomes(clip_ids)
        outcomes.sort(key=lambda outcome: outcome.status is not Status.OK)
        ok = [outcome.clip_id for outcome in outcomes if outcome.status is Status.OK]
        cls = np.zeros((len(clip_ids), layout.frames, layout.dim), dtype=np.float16)
        shape = (len(clip_ids), layout.frames, layout.patches, layout.dim)
        patch = np.zeros(shape, dtype=np.float16)
        try:
            source.read_cls(ok, out=cls[: len(ok)])
            source.read_patches(ok, out=patch[: len(ok)])
            for row, clip_id in enumerate(ok):
                self._require_digest(number, clip_id, patch[row])
        except CorruptStore as error:
            if len(clip_ids) == 1:
                self.damaged.append(DamagedClip(clip_ids[0], str(error)))
                return _Rows(1, [], cls[:0], patch[:0])
            parts = [self._read(number, [clip_id]) for clip_id in clip_ids]
            return _Rows(
                len(clip_ids),
                [outcome for part in parts for outcome in part.outcomes],
                np.concatenate([part.cls for part in parts]),
                np.concatenate([part.patch for part in parts]),
            )
        return _Rows(len(clip_ids), outcomes, cls, patch)

    def _require_digest(self, number: int, clip_id: str, patch: Float16) -> None:
        expected = self._digests[number][clip_id]
        found = patch_digest(patch, self._sources[number].identity)
        if found != expected:
            raise CorruptStore(
                f"The patch features of clip {clip_id!r} in {self._sources[number].location} have the "
                f"digest {found}, not the {expected} of the manifest; restore the store from a backup.",
                clip_id=clip_id,
            )

    def _write(self, writer: StoreWriter, rows: _Rows) -> None:
        ids = [outcome.clip_id for outcome in rows.outcomes]
        claim = writer.claim(ids) if ids else None
        if claim is not None:
            mine = set(claim.clip_ids)
            kept = [row for row, clip_id in enumerate(ids) if clip_id in mine]
            outcomes = [rows.outcomes[row] for row in kept]
            try:
                writer.write_block(claim, outcomes, rows.cls[kept], rows.patch[kept])
            except StoreBusy:
                # This process was taken for dead; whoever ended its block does the clips, or a
                # later run does. The report lists what is left.
                outcomes = []
            except BaseException:
                with suppress(OSError, StoreBusy):
                    writer.abandon(claim)
                raise
            for outcome in outcomes:
                done = self.copied if outcome.status is Status.OK else self.failed
                done.append(outcome.clip_id)
        self._done += rows.asked
        if self._on_clip is not None:
            self._on_clip(self._done, len(self._plan.take))


def _show_committed(target: str | PathLike[str], sources: Sequence[FeatureStore]) -> None:
    """Folds what a killed run has left into the target's manifest, so that it can be compared."""
    for source in sources[:1]:
        with suppress(StoreAbsent), StoreWriter(target, source.identity) as writer:
            writer.compact()
