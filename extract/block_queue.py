"""Drives the blocks of one job: bounded in number, tried again, clips that kill workers alone."""

import math
import os
import secrets
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import numpy as np

from cache_schema import Clip, ClipOutcome, InputError, Status, StoreWriter
from cache_schema.storage.storage import absolute_location
from extract.block_records import BlockReport, BlockSettings, ClipDone
from extract.core_count import cores_here
from extract.decode_pool import DecodePool
from extract.encoder_spec import EncoderSpec
from extract.job_options import JobOptions
from extract.plan import ExtractionPlan
from extract.progress import ProgressDisplay
from extract.runner import BlockRunner, WorkerChoice, WorkerLost, runner_for
from extract.stop_request import StopRequest

SMALL_JOB_CLIPS: Final = 32
"""Clips up to which no worker is started beside this process: two blocks of the usual size."""

_CORES_PER_WORKER: Final = 8
_BATCH_FRAMES_CPU: Final = 64
_BATCH_FRAMES_GPU: Final = 256


class BlockQueue:
    """The blocks of one job, from the first to the last.

    Args:
        decoders: decode processes that have been started ahead, for work in this process.
    """

    def __init__(
        self,
        *,
        clips: Sequence[Clip],
        location: str | os.PathLike[str],
        spec: EncoderSpec,
        plan: ExtractionPlan,
        options: JobOptions,
        display: ProgressDisplay,
        stop: StopRequest,
        decoders: DecodePool | None = None,
    ) -> None:
        self._clips = {clip.clip_id: clip for clip in clips}
        self._location = absolute_location(location)
        self._spec = spec
        self._plan = plan
        self._options = options
        self._display = display
        self._name = f"extract-{secrets.token_hex(4)}"
        self._writer = StoreWriter(location, plan.identity, job=self._name)
        self._stop = stop
        self._decoders = decoders
        self._reports: list[BlockReport] = []
        self._noted_limit: int | None = None
        self._tried_alone: set[tuple[Clip, ...]] = set()

    def run(self, workers: int | None) -> list[BlockReport]:
        """Runs until nothing is pending, or until stopped."""
        pending = list(self._plan.pending)
        count = self._workers(workers, len(pending))
        with self._writer, self._stop.listening():
            try:
                with runner_for(
                    self._settings(count),
                    self._display.clip,
                    self._display.note,
                    workers=WorkerChoice(
                        local=count,
                        scheduler=self._options.scheduler,
                        slurm=self._options.slurm,
                    ),
                    decoders=self._decoders,
                ) as runner:
                    while pending and not self._stop.asked:
                        self._drive(runner, pending)
                        pending = self._left(pending)
            finally:
                with suppress(OSError):
                    self._writer.compact()
        return self._reports

    def _drive(self, runner: BlockRunner, pending: Sequence[str]) -> None:
        queue = deque(self._clips[clip_id] for clip_id in pending)
        suspects: deque[tuple[Clip, ...]] = deque()
        blocks = 0
        while True:
            while queue and not self._stop.asked and runner.in_flight < runner.capacity:
                runner.submit(_next_block(queue, self._writer.block_slots, runner.capacity))
            if suspects and not self._stop.asked and runner.in_flight == 0:
                runner.submit(suspects.popleft())
            if runner.in_flight == 0 or self._stop.expired(self._options.grace_s):
                return
            for end in runner.ended():
                if end.report is not None:
                    self._reports.append(end.report)
                    self._display.block(end.report)
                    self._note_memory(end.report)
                elif isinstance(end.error, WorkerLost):
                    self._isolate(end.clips, suspects)
                elif end.error is not None:
                    raise end.error
                blocks += 1
                if blocks % self._options.compact_every == 0:
                    self._writer.compact()

    def _note_memory(self, report: BlockReport) -> None:
        limit = report.batch_limit
        if limit is not None and limit < (self._noted_limit or limit + 1):
            self._noted_limit = limit
            self._display.note(f"memory was short: {limit} pictures are encoded at once")

    def _left(self, tried: Sequence[str]) -> list[str]:
        """Returns clips that are still, or again, to be done after a round over ``tried``.

        Those are clips of other jobs that have died since, and blocks whose worker was taken for
        dead. A round that brought none of its clips to an end is not repeated.
        """
        left = self._writer.pending(self._clips)
        return left if set(left) != set(tried) else []

    def _isolate(self, clips: tuple[Clip, ...], suspects: deque[tuple[Clip, ...]]) -> None:
        """Halves a block on which workers died, until the clip that kills them is left alone.

        A worker dies with all blocks that it has in hand, so suspects are tried one at a time.
        """
        if len(clips) > 1:
            self._display.note(f"workers died on a block of {len(clips)} clips; trying its halves")
            middle = len(clips) // 2
            suspects.extend((clips[:middle], clips[middle:]))
            return
        if clips not in self._tried_alone:
            # The first time others may have been in hand.
            self._tried_alone.add(clips)
            suspects.append(clips)
            return
        (clip,) = clips
        claim = self._writer.claim([clip.clip_id])
        if claim is None:
            return
        outcome = ClipOutcome(
            clip_id=clip.clip_id,
            status=Status.FAILED,
            reason="crashed",
            detail="workers died on this clip again and again, the last time with no other in hand",
            start_s=clip.start_s,
            end_s=clip.end_s,
        )
        shape = self._plan.identity
        cls = np.zeros((1, shape.frames, shape.dim), dtype=np.float16)
        patch = np.zeros((1, shape.frames, shape.patches, shape.dim), dtype=np.float16)
        self._writer.write_block(claim, [outcome], cls, patch)
        self._display.clip(ClipDone(clip_id=clip.clip_id, ok=False, frames=0))

    def _workers(self, asked: int | None, pending: int) -> int:
        if self._options.scheduler or self._options.slurm:
            return 0
        if asked is not None:
            if asked < 0:
                raise InputError(f"{asked} workers were asked for; 0 or more are possible")
            return asked
        if pending <= SMALL_JOB_CLIPS:
            return 0
        if self._spec.device == "cuda":
            # torch is loaded for this one number only where there may be several GPUs.
            import torch

            return max(torch.cuda.device_count(), 1)
        return 1 if self._on_gpu else math.ceil(cores_here() / _CORES_PER_WORKER)

    def _settings(self, workers: int) -> BlockSettings:
        share = self._share(workers)
        frames = self._plan.identity.frames
        most = _BATCH_FRAMES_GPU if self._on_gpu else _BATCH_FRAMES_CPU
        return BlockSettings(
            location=self._location,
            spec=_absolute(self._spec),
            frames=frames,
            limits=self._options.limits,
            backend=self._options.backend,
            root=self._options.root and self._options.root.absolute(),
            follow_links=self._options.follow_links,
            extra_roots=tuple(folder.absolute() for folder in self._options.extra_roots),
            job=self._name,
            decoders=self._options.decoders or share,
            encoders=1 if self._on_gpu else share,
            batch_frames=self._options.batch_frames or even_batch(frames, most),
            pool=self._options.pool,
            int8=self._options.int8,
        )

    def _share(self, workers: int) -> int:
        """Cores of one worker; 0 where only the worker itself knows them."""
        if self._options.scheduler is not None:
            return 0
        if self._options.slurm is not None:
            return self._options.slurm.cores_per_process
        return max(cores_here() // max(workers, 1), 1)

    @property
    def _on_gpu(self) -> bool:
        return self._spec.device != "cpu"


def _next_block(queue: deque[Clip], slots: int, capacity: int) -> list[Clip]:
    """Takes full blocks first and small ones at the end, so that all workers end together."""
    size = min(slots, max(len(queue) // (2 * capacity), 1))
    return [queue.popleft() for _ in range(size)]


def even_batch(frames: int, most: int) -> int:
    """Returns a batch size, at most ``most``, that clips of N = ``frames`` frames fill evenly.

    N=100 gives 50 of at most 64, and 200 of at most 256.
    """
    if frames <= most:
        return frames * (most // frames)
    return math.ceil(frames / math.ceil(frames / most))


def _absolute(spec: EncoderSpec) -> EncoderSpec:
    """Workers may have another working folder."""
    return replace(
        spec,
        weights=spec.weights and spec.weights.absolute(),
        model_config=spec.model_config and spec.model_config.absolute(),
        tokenizer=spec.tokenizer and spec.tokenizer.absolute(),
    )
