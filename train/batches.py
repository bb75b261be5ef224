"""Batches of tensors: the epoch order says what to read, a thread reads it ahead of the model.

Shapes: C = clips, Q = questions, R = pairs of a text and a clip, N = frames, P = patches,
D = feature width.
"""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.epoch_order import Position, Rows
from train.features import FeatureReader, Half
from train.question_set import QuestionSet

_STOP_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Some questions as pairs to be scored, and the features of their clips, each clip once.

    An open question is one pair; a choice is one for every candidate or clip.
    """

    cls: Tensor
    """float16 [C, N, D] CLS features."""
    patch: Tensor
    """float16 [C, N, P, D] patch features; P is 0 for a model that reads none."""
    text: Tensor
    """float32 [R, D] sentence features."""
    clip_of_pair: Tensor
    """int64 [R], which of the C clips a pair is about."""
    question_of_pair: Tensor
    """int64 [R], which of the Q questions a pair belongs to; those of one lie side by side."""
    answer: Tensor
    """int64 [Q] answer classes, `UNKNOWN` where training never saw the answer; of a choice, the
    place of the right one."""
    question_ids: tuple[str, ...]
    """The Q questions by name, for messages."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on another device."""
        return Batch(
            cls=self.cls.to(device),
            patch=self.patch.to(device),
            text=self.text.to(device),
            clip_of_pair=self.clip_of_pair.to(device),
            question_of_pair=self.question_of_pair.to(device),
            answer=self.answer.to(device),
            question_ids=self.question_ids,
        )


@dataclass(kw_only=True, slots=True)
class _Buffer:
    """Memory that one batch's features are read into, again and again."""

    cls: Half
    patch: Half


class BatchLoader:
    """Reads the batches of an order in a thread, into a fixed set of buffers.

    A batch is valid until the next one is asked for: its memory is used again.

    Attributes:
        waited_s: seconds that the consumer has waited for data so far.
    """

    def __init__(
        self,
        questions: QuestionSet,
        reader: FeatureReader,
        *,
        clips: int,
        read_ahead: int,
        patches: bool = True,
    ) -> None:
        """Args: `clips` is the most clips a batch has; `patches=False` reads CLS features only."""
        self.waited_s = 0.0
        self._questions = questions
        self._reader = reader
        self._clips = clips
        self._read_ahead = read_ahead
        self._patches = patches

    def batches(self, order: Iterator[tuple[Position, Rows]]) -> Generator[tuple[Position, Batch]]:
        """Yield the batches of an order; an error of the reading thread is raised here."""
        free: queue.Queue[_Buffer] = queue.Queue()
        ready: queue.Queue[tuple[Position, Batch, _Buffer] | BaseException | None] = queue.Queue()
        # One more than the depth: the consumer holds one while the thread fills the others.
        for _ in range(self._read_ahead + 1):
            free.put(self._buffer())
        stop = threading.Event()
        thread = threading.Thread(
            target=self._fill, args=(order, free, ready, stop), name="batch-reader", daemon=True
        )
        thread.start()
        try:
            while True:
                started = time.perf_counter()
                item = ready.get()
                self.waited_s += time.perf_counter() - started
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                position, batch, buffer = item
                yield position, batch
                free.put(buffer)
        finally:
            stop.set()
            thread.join()

    def read(self, rows: Rows, buffer: _Buffer | None = None) -> Batch:
        """Read one batch, into a buffer where given."""
        pairs = self._questions.pairs(rows)
        asked, clip_of_pair = np.unique(pairs.clip, return_inverse=True)
        clip_ids = self._questions.names(asked)
        buffer = buffer or self._buffer(len(clip_ids))
        cls, patch = buffer.cls[: len(clip_ids)], buffer.patch[: len(clip_ids)]
        self._reader.read_cls(clip_ids, out=cls)
        if self._patches:
            self._reader.read_patches(clip_ids, out=patch)
        return Batch(
            cls=torch.from_numpy(cls),
            patch=torch.from_numpy(patch),
            text=torch.from_numpy(self._questions.text_features(pairs.texts)),
            clip_of_pair=torch.from_numpy(clip_of_pair.astype(np.int64)),
            question_of_pair=torch.from_numpy(pairs.question),
            answer=torch.from_numpy(self._questions.answer[rows]),
            question_ids=self._questions.ids(rows),
        )

    def _buffer(self, clips: int | None = None) -> _Buffer:
        identity = self._reader.identity
        frames = (clips or self._clips, identity.frames)
        patches = identity.patches if self._patches else 0
        return _Buffer(
            cls=np.empty((*frames, identity.dim), np.float16),
            patch=np.empty((*frames, patches, identity.dim), np.float16),
        )

    def _fill(
        self,
        order: Iterator[tuple[Position, Rows]],
        free: "queue.Queue[_Buffer]",
        ready: "queue.Queue[tuple[Position, Batch, _Buffer] | BaseException | None]",
        stop: threading.Event,
    ) -> None:
        """Thread body: read batch after batch until the order ends or the consumer leaves."""
        try:
            for position, rows in order:
                buffer = _take(free, stop)
                if buffer is None:
                    return
                ready.put((position, self.read(rows, buffer), buffer))
            ready.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer's thread
            ready.put(error)


def _take(free: "queue.Queue[_Buffer]", stop: threading.Event) -> _Buffer | None:
    """Wait for a free buffer, or for the consumer to leave (None)."""
    while not stop.is_set():
        try:
            return free.get(timeout=_STOP_POLL_S)
        except queue.Empty:
            continue
    return None
