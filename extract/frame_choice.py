"""Which frames of a clip are taken: N midpoints of equal stretches of time (``midpoint-pts-1``)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cache_schema import InputError

TIE_SECONDS: Final = 1e-6
"""A midpoint this close before a frame's time counts as on it.

With a file of 2N frames every midpoint falls exactly on a frame's time, and rounding of binary
fractions would decide between two neighbours.
"""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameChoice:
    """The frames of one clip."""

    index: npt.NDArray[np.int32]
    """int32 [N]: place among the presentable frames of the file, never decreasing."""
    time: npt.NDArray[np.float64]
    """float64 [N]: presentation time of each frame taken, seconds from the first frame."""
    distinct: npt.NDArray[np.int32]
    """int32 [d]: the indices without repeats; only these are decoded and encoded."""
    slot: npt.NDArray[np.int64]
    """int64 [N]: for each of the N frames, its place in ``distinct``."""


def choose_frames(
    timestamps: npt.NDArray[np.float64], start_s: float, end_s: float, frames: int
) -> FrameChoice:
    """Chooses N frames, evenly spread in time, from the presentable frames of a file.

    Frame i is the one on screen at t_i = start + (i + 0.5) / N x (end - start): the last frame
    whose timestamp is at most t_i (within ``TIE_SECONDS``), or the first frame of the file where
    t_i lies before it. A clip with fewer frames than N therefore repeats them, each about equally
    often; in a file of variable rate the spread is even in time, not in frame numbers.

    Args:
        timestamps: float64 [M], seconds, strictly increasing, at least one.
        start_s: begin of the clip in seconds, on the same axis.
        end_s: end of the clip, not before ``start_s``.
        frames: N, at least 1.

    Raises:
        InputError: N is below 1, there are no timestamps, or the bounds are out of order.
    """
    if frames < 1:
        raise InputError(f"{frames} frames per clip were asked for; at least 1 is needed")
    if timestamps.size == 0:
        raise InputError("there are no frames to choose from")
    if not start_s <= end_s:
        raise InputError(f"the clip ends at {end_s} s, before its begin at {start_s} s")
    midpoints = start_s + (np.arange(frames) + 0.5) / frames * (end_s - start_s)
    index = np.searchsorted(timestamps, midpoints + TIE_SECONDS, side="right") - 1
    index = np.maximum(index, 0)
    distinct, slot = np.unique(index, return_inverse=True)
    return FrameChoice(
        index=index.astype(np.int32),
        time=timestamps[index],
        distinct=distinct.astype(np.int32),
        slot=slot,
    )
