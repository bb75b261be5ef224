"""Pictures of many clips packed into batches of one size, and their features sorted back.

All batches have the same size, the last is filled up with black pictures. Matrix kernels are chosen
by size, and another kernel rounds otherwise: only so are a clip's features the same bits whichever
clips it shares a block with, and so whenever a job was killed.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from extract.encoder import EncodedFrames

Float16 = npt.NDArray[np.float16]
Uint8 = npt.NDArray[np.uint8]


class PendingBatch(Protocol):
    """A batch that an encoder is working on."""

    def wait(self) -> EncodedFrames:
        """Returns its features when they are there."""
        ...


@dataclass(slots=True, eq=False)
class _Filling:
    """The distinct frames of one clip, some of them encoded."""

    slot: npt.NDArray[np.int64]
    cls: Float16
    patch: Float16
    finite: bool = True
    filled: int = 0


class FramePacker:
    """Cuts a stream of clips into full batches; a short clip never leaves an encoder half idle.

    A batch is started before the last one's features are taken, so that a GPU always has work.

    Args:
        start: starts to encode uint8 [B, S, S, 3].
        batch_frames: B, the size of every batch.
        cls: float16 [n, N, D], filled row by row.
        patch: float16 [n, N, P, D], likewise.
    """

    def __init__(
        self,
        start: Callable[[Uint8], PendingBatch],
        batch_frames: int,
        cls: Float16,
        patch: Float16,
    ) -> None:
        self._start = start
        self._batch = batch_frames
        self._cls = cls
        self._patch = patch
        self._waiting: deque[tuple[int, Uint8]] = deque()
        self._frames = 0
        self._clips: dict[int, _Filling] = {}
        self._started: tuple[PendingBatch, list[tuple[int, int]]] | None = None
        self.nonfinite: set[int] = set()
        """Rows with features that are NaN or infinite."""

    def add(self, row: int, pixels: Uint8, slot: npt.NDArray[np.int64]) -> list[int]:
        """Takes one clip.

        Args:
            row: its row in ``cls`` and ``patch``.
            pixels: uint8 [d, S, S, 3], its distinct frames.
            slot: int64 [N], for each of its N frames the place in ``pixels``.

        Returns:
            The rows that became complete.
        """
        patches, dim = self._patch.shape[2:]
        distinct = len(pixels)
        self._clips[row] = _Filling(
            slot=slot,
            cls=np.empty((distinct, dim), dtype=np.float16),
            patch=np.empty((distinct, patches, dim), dtype=np.float16),
        )
        self._waiting.append((row, pixels))
        self._frames += distinct
        complete: list[int] = []
        while self._frames >= self._batch:
            complete.extend(self._start_next(self._batch))
        return complete

    def flush(self) -> list[int]:
        """Encodes what is left; returns the rows that became complete."""
        complete = self._start_next(self._frames) if self._frames else []
        return complete + self._take_started()

    def _start_next(self, size: int) -> list[int]:
        """Starts a batch with ``size`` frames of clips; returns what the last one completed."""
        pictures: list[Uint8] = []
        owners: list[tuple[int, int]] = []
        missing = size
        while missing:
            row, pixels = self._waiting.popleft()
            taken, rest = pixels[:missing], pixels[missing:]
            pictures.append(taken)
            owners.append((row, len(taken)))
            missing -= len(taken)
            if len(rest):
                self._waiting.appendleft((row, rest))
        self._frames -= size
        if size < self._batch:
            pictures.append(np.zeros((self._batch - size, *pictures[0].shape[1:]), dtype=np.uint8))
        started = self._start(np.concatenate(pictures))
        complete = self._take_started()
        self._started = (started, owners)
        return complete

    def _take_started(self) -> list[int]:
        """Sorts the features of the started batch back; returns the rows it completed."""
        if self._started is None:
            return []
        pending, owners = self._started
        self._started = None
        encoded = pending.wait()
        complete = []
        begin = 0
        for row, count in owners:
            if self._place(row, encoded, begin, begin + count):
                complete.append(row)
            begin += count
        return complete

    def _place(self, row: int, encoded: EncodedFrames, begin: int, end: int) -> bool:
        clip = self._clips[row]
        target = slice(clip.filled, clip.filled + end - begin)
        clip.cls[target] = encoded.cls[begin:end]
        clip.patch[target] = encoded.patch[begin:end]
        clip.finite &= bool(encoded.finite[begin:end].all())
        clip.filled = target.stop
        if clip.filled < len(clip.cls):
            return False
        self._cls[row] = clip.cls[clip.slot]
        self._patch[row] = clip.patch[clip.slot]
        if not clip.finite:
            self.nonfinite.add(row)
        del self._clips[row]
        return True
