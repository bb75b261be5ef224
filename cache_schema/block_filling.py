"""Filling a store block by block with features that exist already, from a file or another store."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cache_schema.errors import StoreBusy
from cache_schema.outcome import ClipOutcome
from cache_schema.writer import StoreWriter

Float16 = npt.NDArray[np.float16]

ReadClip = Callable[[str, Float16, Float16], ClipOutcome]
"""Puts a clip's features into float16 [N, D] and [N, P, D], and returns its outcome."""

_BLOCKS_PER_COMPACTION: Final = 64


class FillProgress(NamedTuple):
    """How far a filling is."""

    done: int
    """Clips ended so far, failed ones included."""
    total: int
    """Clips to end."""
    seconds: float
    """Time since the begin."""

    @property
    def seconds_left(self) -> float | None:
        """Expected time to the end, None before the first clip."""
        return self.seconds / self.done * (self.total - self.done) if self.done else None


OnProgress = Callable[[FillProgress], None]


def fill_blocks(
    writer: StoreWriter,
    clip_ids: Sequence[str],
    read: ReadClip,
    *,
    patches: int,
    on_progress: OnProgress | None = None,
) -> list[ClipOutcome]:
    """Writes clips into a store, a block in memory at a time, and folds them into its manifest.

    May be killed and repeated: what was committed is kept.

    Args:
        writer: the store's writer.
        clip_ids: clips that its ``pending`` returned.
        read: gives each clip; what it raises ends the filling.
        patches: P of the arrays handed to ``read``; for a pooled store that of before or after.
        on_progress: called after each clip that was read.

    Returns:
        The outcomes committed, in order. Clips that another process took meanwhile are left out.
    """
    identity, begin = writer.identity, time.monotonic()
    slots = min(writer.block_slots, max(len(clip_ids), 1))
    cls = np.zeros((slots, identity.frames, identity.dim), dtype=np.float16)
    patch = np.zeros((slots, identity.frames, patches, identity.dim), dtype=np.float16)
    committed: list[ClipOutcome] = []
    done = 0
    try:
        for number, start in enumerate(range(0, len(clip_ids), slots), start=1):
            part = clip_ids[start : start + slots]
            claim = writer.claim(part)
            taken = claim.clip_ids if claim is not None else ()
            done += len(part) - len(taken)
            outcomes = []
            for row, clip_id in enumerate(taken):
                outcomes.append(read(clip_id, cls[row], patch[row]))
                done += 1
                if on_progress is not None:
                    on_progress(FillProgress(done, len(clip_ids), time.monotonic() - begin))
            if claim is None:
                continue
            # Another process that took this one for dead has ended the block; its clips are done
            # there, or pending for the next run.
            with suppress(StoreBusy):
                writer.write_block(claim, outcomes, cls[: len(taken)], patch[: len(taken)])
                committed.extend(outcomes)
            if number % _BLOCKS_PER_COMPACTION == 0:
                writer.compact()
    finally:
        with suppress(OSError):
            writer.compact()
    return committed
