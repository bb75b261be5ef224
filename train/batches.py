"""Batches of tensors: the epoch order says what to read, threads read it ahead of the model.

Shapes: C = clips, Q = questions, R = pairs of a text and a clip, N = frames, P = patches,
D = feature width.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from train.batch_memory import BatchMemory
from train.epoch_order import Rows
from train.features import FeatureReader, ResidentFeatures, feature_bytes
from train.question_set import QuestionSet

_Tag = TypeVar("_Tag")


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
    """What the model is given of the texts: float32 [R, D] sentence features, or int64 [R, T] tokens
    where a text tower is part of it."""
    clip_of_pair: Tensor
    """int64 [R], which of the C clips a pair is about."""
    question_of_pair: Tensor
    """int64 [R], which of the Q questions a pair belongs to; those of one lie side by side."""
    answer: Tensor
    """int64 [Q] answer classes, `UNKNOWN` where training never saw the answer; of a choice, the
    place of the right one."""
    question_ids: tuple[str, ...]
    """The Q questions by name, for messages."""
    clip_ids: tuple[str, ...]
    """The C clips by name."""
    token: Tensor | None = None
    """int64 [R, T] tokens of the texts, in runs that need them."""

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
            clip_ids=self.clip_ids,
            token=None if self.token is None else self.token.to(device),
        )


class BatchLoader:
    """Reads the batches of an order, several clips at a time, into a fixed set of memories.

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
        read_ahead_bytes: int | None = None,
        threads: int = 1,
        patches: bool = True,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
        tokens: Callable[[Sequence[str]], Tensor] | None = None,
        texts_as_tokens: bool = False,
    ) -> None:
        """Set up a loader; nothing is read or allocated yet.

        Args:
            questions: what the rows of an order are.
            reader: where the features come from.
            clips: the most clips that a batch has.
            read_ahead: batches that are read while the consumer has one.
            read_ahead_bytes: memory that all of these may take together; one batch is held in any
                case. None is no limit.
            threads: parts of a batch, some clips each, that are read at a time.
            patches: False reads CLS features only.
            device: where the batches are to be.
            tokens: gives the tokens of texts, for runs that need them.
            texts_as_tokens: whether the model reads these in place of sentence features.
        """
        self.waited_s = 0.0
        self._questions = questions
        self._reader = reader
        self._clips = clips
        self._threads = threads
        self._patches = patches
        self._device = device
        self._tokens = tokens
        self._texts_as_tokens = texts_as_tokens
        self._most_memories = read_ahead + 1
        if read_ahead_bytes is not None:
            batch_bytes = feature_bytes(reader.identity, clips, patches=patches)
            self._most_memories = max(1, min(self._most_memories, read_ahead_bytes // batch_bytes))
        self._memories: list[BatchMemory] = []

    def batches(self, order: Iterable[tuple[_Tag, Rows]]) -> Generator[tuple[_Tag, Batch]]:
        """Yield the batches of an order, each with its tag; one order at a time.

        What goes wrong in a thread is raised here.
        """
        todo = iter(order)
        started = time.perf_counter()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="batch-reader")
        coming: deque[tuple[_Tag, BatchMemory, Future[_Reading]]] = deque()
        try:
            for number, (tag, rows) in enumerate(islice(todo, self._most_memories)):
                memory = self._memory(number)
                coming.append((tag, memory, pool.submit(self._begin, pool, rows, memory)))
            while coming:
                tag, memory, beginning = coming.popleft()
                batch = _finish(beginning)
                memory.hand_over()
                self.waited_s += time.perf_counter() - started
                yield tag, batch
                started = time.perf_counter()
                memory.leave()
                for next_tag, rows in islice(todo, 1):
                    coming.append((next_tag, memory, pool.submit(self._begin, pool, rows, memory)))
        finally:
            pool.shutdown(cancel_futures=True)
            for memory in self._memories:
                memory.abandon()

    def _begin(self, pool: ThreadPoolExecutor, rows: Rows, memory: BatchMemory) -> "_Reading":
        """Thread body: look up what a batch is about, and have its clips read."""
        pairs = self._questions.pairs(rows)
        asked, clip_of_pair = np.unique(pairs.clip, return_inverse=True)
        clip_ids = self._questions.names(asked)
        memory.enter()
        edges = np.linspace(0, len(clip_ids), min(self._threads, len(clip_ids)) + 1).astype(int)
        parts = [
            pool.submit(self._read, clip_ids, slice(start, stop), memory)
            for start, stop in pairwise(edges.tolist())
        ]
        token = None if self._tokens is None else self._tokens(pairs.texts)
        if token is not None and self._texts_as_tokens:
            text = token
        else:
            text = torch.from_numpy(self._questions.text_features(pairs.texts))
        with memory.copying():
            batch = Batch(
                cls=memory.cls[: len(clip_ids)],
                patch=memory.patch[: len(clip_ids)],
                text=text,
                clip_of_pair=torch.from_numpy(clip_of_pair.astype(np.int64)),
                question_of_pair=torch.from_numpy(pairs.question),
                answer=torch.from_numpy(self._questions.answer[rows]),
                question_ids=self._questions.ids(rows),
                clip_ids=tuple(clip_ids),
                token=token,
            ).to(self._device)
        return _Reading(batch, parts)

    def _read(self, clip_ids: Sequence[str], part: slice, memory: BatchMemory) -> None:
        """Thread body: read some of a batch's clips, and send them on to the device."""
        names = clip_ids[part]
        with memory.copying():
            if isinstance(self._reader, ResidentFeatures) and self._reader.device == self._device:
                self._reader.take_cls(names, memory.cls[part])
                if self._patches:
                    self._reader.take_patches(names, memory.patch[part])
                return
            self._reader.read_cls(names, out=memory.read_cls[part].numpy())
            if self._patches:
                self._reader.read_patches(names, out=memory.read_patch[part].numpy())
            memory.copy_to_device(part)

    def _memory(self, number: int) -> BatchMemory:
        """One of the memories, which stay for the next order; made when first needed."""
        if number == len(self._memories):
            identity = self._reader.identity
            memory = BatchMemory(identity, self._clips, self._device, patches=self._patches)
            self._memories.append(memory)
        return self._memories[number]


class _Reading(NamedTuple):
    """A batch, and the reading that has to end before it is whole."""

    batch: Batch
    parts: list[Future[None]]


def _finish(beginning: "Future[_Reading]") -> Batch:
    """Wait until a batch is whole; raises what went wrong."""
    batch, parts = beginning.result()
    for part in parts:
        part.result()
    return batch
