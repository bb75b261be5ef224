"""A whole extraction: plan it, run its blocks, survive what dies, and account for every clip."""

import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from cache_schema import (
    Clip,
    ClipOutcome,
    FeatureIdentity,
    InputError,
    Status,
    StoreWriter,
    create_store,
)
from cache_schema.storage import absolute_location, is_url
from extract.block_records import BlockReport, BlockSettings, ClipDone
from extract.encoder_spec import EncoderSpec, identity_of
from extract.frame_request import Backend
from extract.limits import DecodeLimits
from extract.plan import ExtractionPlan, plan_of
from extract.progress import ProgressDisplay, Silent
from extract.runner import BlockRunner, WorkerLost, runner_for
from extract.stop_request import StopRequest
from extract.tally import Tally, tally_of, write_failures

_CORES_PER_WORKER: Final = 8
_SMALL_JOB_BLOCKS: Final = 2
_BATCH_FRAMES_CPU: Final = 64
_BATCH_FRAMES_GPU: Final = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """What a job may be told beyond its clips, store and encoder."""

    root: Path | None = None
    """Folder that must hold the videos, links followed; paths are recorded relative to it."""
    extra_roots: tuple[Path, ...] = ()
    """Further folders that links below the root may lead into, such as a shared disk."""
    follow_links: bool = False
    """Whether links below the root may lead anywhere."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    backend: Backend = "pyav"
    scheduler: str | None = None
    """Address of a running Dask scheduler; None for workers of this machine."""
    decoders: int | None = None
    """Decode processes of a worker; by default its share of the cores."""
    batch_frames: int | None = None
    """Frames encoded at once; by default at most 64 on a CPU and 256 on a GPU, such that clips of N
    frames fill batches. Another number may change the last bit of a feature."""
    failures: Path | None = None
    """Where to list failed clips; by default beside the store, or here if that is at a URL."""
    compact_every: int = 64
    """Blocks after which readers may see what is done so far."""
    grace_s: float = 25.0
    """Seconds that blocks in hand get to finish after a first Ctrl-C or SIGTERM."""
    pool: tuple[int, int] | None = None
    """Rows and columns that each frame's grid of patches is averaged to; the loss is measured."""
    int8: bool = False
    """Whether patches are kept as int8 with a scale per token; the loss is measured."""


def plan_extraction(
    clips: Sequence[Clip],
    location: str | os.PathLike[str],
    spec: EncoderSpec,
    *,
    frames: int = 100,
    retry_failed: bool = False,
    options: JobOptions | None = None,
) -> ExtractionPlan:
    """Says what ``run_extraction`` would do; writes nothing.

    Raises:
        InputError: the encoder cannot be made as asked, or two clips have one id.
        IdentityMismatch: the store holds other features.
    """
    identity = _identity(spec, frames, options or JobOptions())
    return plan_of(clips, location, identity, retry_failed=retry_failed)


def run_extraction(
    clips: Sequence[Clip],
    location: str | os.PathLike[str],
    spec: EncoderSpec,
    *,
    frames: int = 100,
    workers: int | None = None,
    retry_failed: bool = False,
    progress: ProgressDisplay | None = None,
    options: JobOptions | None = None,
) -> Tally:
    """Extracts the features of clips into a store, which is created if absent.

    May be killed at any time and run again: what was committed is kept, the rest is done anew,
    and the features are the same. Several jobs may work on one store. A clip that cannot be
    decoded becomes a failed row with a reason; only a store that cannot be written, or decode
    processes that do not start, end the job.

    Args:
        clips: the clips; ids must differ.
        location: path or URL of the store.
        spec: the encoder.
        frames: N, frames of a clip.
        workers: worker processes. By default one per GPU, or one per eight cores of a CPU (each
            encodes on a thread per core), and none beside this process for small jobs; 0 runs
            everything in this process.
        retry_failed: whether to try clips again that failed earlier.
        progress: display; None for none.
        options: everything else.

    Returns:
        The counts, with the list of failed clips, which also lies beside the store as CSV, or in
        the working directory where the store is at a URL.

    Raises:
        InputError: bad arguments, too little room on the disk, or a decoder that is not here.
        StoreError: the store is foreign, newer or of another identity.
        OSError: the store cannot be written.
    """
    options = options or JobOptions()
    begin = time.monotonic()
    display = _Serialised(progress or Silent())
    identity = _identity(spec, frames, options)
    plan = plan_of(clips, location, identity, retry_failed=retry_failed)
    display.start(plan)
    reports: list[BlockReport] = []
    stop = StopRequest()
    if plan.pending:
        plan.require_room()
        if options.backend != "pyav":
            # A library that is not here is said at once. Loaded only for those who ask for it.
            from extract.decoder_choice import load_decoder

            load_decoder(options.backend)
        create_store(location, identity)
        job = _Job(
            clips=clips, location=location, spec=spec, plan=plan, options=options,
            display=display, stop=stop,
        )  # fmt: skip
        reports = job.run(workers)
    tally = tally_of(
        plan,
        clip_ids=[clip.clip_id for clip in clips],
        location=location,
        reports=reports,
        seconds=time.monotonic() - begin,
    )
    failures = options.failures or _failures_file(location)
    if failures.parent.is_dir():
        write_failures(failures, tally.failures)
    if stop.asked:
        display.note("stopped; run the same command to continue")
    display.end(tally)
    return tally


class _Serialised:
    """Hands events of many threads to a display one at a time, and remembers whose they were."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def start(self, plan: ExtractionPlan) -> None:
        with self._lock:
            self._display.start(plan)

    def clip(self, done: ClipDone) -> None:
        with self._lock:
            # A block that is done twice, because its worker died late, is news only once.
            if done.clip_id not in self._told:
                self._told.add(done.clip_id)
                self._display.clip(done)

    def block(self, report: BlockReport) -> None:
        with self._lock:
            self._display.block(report)

    def note(self, message: str) -> None:
        with self._lock:
            self._display.note(message)

    def end(self, tally: Tally) -> None:
        with self._lock:
            self._display.end(tally)


def _failures_file(location: str | os.PathLike[str]) -> Path:
    store = Path(location)
    name = f"{store.name}.failures.csv"
    return Path(name) if is_url(location) else store.with_name(name)


class _Job:
    """The blocks of one job, from the first to the last."""

    def __init__(
        self,
        *,
        clips: Sequence[Clip],
        location: str | os.PathLike[str],
        spec: EncoderSpec,
        plan: ExtractionPlan,
        options: JobOptions,
        display: _Serialised,
        stop: StopRequest,
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
        self._reports: list[BlockReport] = []
        self._noted_limit: int | None = None

    def run(self, workers: int | None) -> list[BlockReport]:
        """Runs until nothing is pending, or until stopped."""
        pending = list(self._plan.pending)
        count = self._workers(workers, len(pending))
        with self._writer, self._stop.listening():
            try:
                with runner_for(
                    self._settings(max(count, 1)),
                    self._display.clip,
                    workers=count,
                    scheduler=self._options.scheduler,
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
        alone: deque[Clip] = deque()
        blocks = 0
        while True:
            while not self._stop.asked and runner.in_flight < runner.capacity:
                if queue:
                    runner.submit(_next_block(queue, self._writer.block_slots, runner.capacity))
                elif alone:
                    runner.submit([alone.popleft()])
                else:
                    break
            if runner.in_flight == 0 or self._stop.expired(self._options.grace_s):
                return
            for end in runner.ended():
                if end.report is not None:
                    self._reports.append(end.report)
                    self._display.block(end.report)
                    self._note_memory(end.report)
                elif isinstance(end.error, WorkerLost):
                    self._isolate(end.clips, alone)
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

    def _isolate(self, clips: tuple[Clip, ...], alone: deque[Clip]) -> None:
        """After workers died on a block, each of its clips gets a block of its own."""
        if len(clips) > 1:
            self._display.note(f"workers died on a block of {len(clips)} clips; trying each alone")
            alone.extend(clips)
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
        if asked is not None:
            if asked < 0:
                raise InputError(f"{asked} workers were asked for; 0 or more are possible")
            return asked
        if pending <= _SMALL_JOB_BLOCKS * self._writer.block_slots:
            return 0
        if self._spec.device == "cuda":
            # torch is loaded for this one number only where there may be several GPUs.
            import torch

            return max(torch.cuda.device_count(), 1)
        return 1 if self._on_gpu else math.ceil(_cores() / _CORES_PER_WORKER)

    def _settings(self, workers: int) -> BlockSettings:
        share = max(_cores() // workers, 1)
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


def _identity(spec: EncoderSpec, frames: int, options: JobOptions) -> FeatureIdentity:
    if spec.weights is not None:
        identity = identity_of(spec, frames)
    else:
        from extract.encoder import load_encoder

        identity = load_encoder(spec).identity(frames)
    return identity.reduced(pool=options.pool, int8=options.int8)


def _absolute(spec: EncoderSpec) -> EncoderSpec:
    """Workers may have another working folder."""
    return replace(
        spec,
        weights=spec.weights and spec.weights.absolute(),
        model_config=spec.model_config and spec.model_config.absolute(),
        tokenizer=spec.tokenizer and spec.tokenizer.absolute(),
    )


def _cores() -> int:
    """Cores that this process may use, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
