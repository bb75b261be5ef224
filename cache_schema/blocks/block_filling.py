"""Filling a store block by block with features that exist already, from a file or another store."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import numpy as np
import numpy.typing as npt

from cache_schema.errors import StoreBusy
from cache_schema.outcome import ClipOutcome
from cache_schema.writer import StoreWriter

Float16 = npt.NDArray[np.float16]

ReadClip = Callable[[str, Float16, Float16], ClipOutcome]
"""Puts a clip's features into float16 [N, D] and [N, P, D], and returns its outcome."""

OnClip = Callable[[int, int], None]
"""Told how many clips are done, and of how many, after each one."""

_BLOCKS_PER_COMPACTION: Final = 64


def fill_blocks(
    writer: StoreWriter,
    clip_ids: Sequence[str],
    read: ReadClip,
    *,
    patches: int,
    on_clip: OnClip | None = None,
) -> list[ClipOutcome]:
    """Writes clips into a store, a block in memory at a time, and folds them into its manifest.

    May be killed and repeated: what was committed is kept.

    Args:
        writer: the store's writer.
        clip_ids: clips that its ``pending`` returned.
        read: gives each clip; what it raises ends the filling.
        patches: P of the arrays handed to ``read``; for a pooled store that of before or after.
        on_clip: called after each clip that was read.

    Returns:
        The outcomes committed, in order. Clips that another process took meanwhile are left out.
    """
    identity = writer.identity
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
                if on_clip is not None:
                    on_clip(done, len(clip_ids))
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
