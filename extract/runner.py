"""Where blocks run: in this process, or as Dask tasks on local or foreign workers."""

# distributed annotates only part of what it exports.
# mypy: allow-untyped-calls

import atexit
import functools
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from cache_schema import Clip, VideoDistillError
from extract.block_records import BlockReport, BlockSettings, ClipDone

if TYPE_CHECKING:
    from distributed import Client, LocalCluster
    from distributed import Future as DaskFuture

    from extract.block import BlockExtractor

_TOPIC: Final = "videodistill-clips"
_WAIT_SECONDS: Final = 0.5
_CLOSE_SECONDS: Final = 30
# Deaths of workers that a block may meet before its clips are tried one by one.
_DEATHS_PER_BLOCK: Final = 2
# One thread for every operation, as in extract.block. Dask would also have workers return freed
# memory to the system at once, and the encoder would then spend 40 % of its time on page faults.
_WORKER_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}


class WorkerLost(VideoDistillError):  # noqa: N818 -- says what is the case
    """Workers died again and again while they had a block in hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockEnd:
    """A block that is over."""

    clips: tuple[Clip, ...]
    report: BlockReport | None
    """None if it failed."""
    error: BaseException | None = None


class BlockRunner(Protocol):
    """Runs blocks, a bounded number at once."""

    @property
    def capacity(self) -> int:
        """How many blocks to have in flight, so that no worker is idle."""
        ...

    def submit(self, clips: Sequence[Clip]) -> None:
        """Starts a block."""

    def ended(self) -> list[BlockEnd]:
        """Returns blocks that are over; waits for at most half a second if there are none."""
        ...

    @property
    def in_flight(self) -> int:
        """Blocks submitted and not yet returned by ``ended``."""
        ...


class LocalRunner:
    """Runs blocks on threads of this process: nothing to start, for small jobs and debugging."""

    def __init__(self, settings: BlockSettings, tell: Callable[[ClipDone], None]) -> None:
        # Loads torch and the encoder, which a job without pending clips never needs.
        from extract.block import BlockExtractor

        self._extractor: BlockExtractor = BlockExtractor(settings)
        self._tell = tell
        self._threads = ThreadPoolExecutor(settings.encoders + 1, "block")
        self._futures: dict[Future[BlockReport], tuple[Clip, ...]] = {}

    @property
    def capacity(self) -> int:
        """One block more than may encode: it is being decoded or written."""
        return self._extractor.settings.encoders + 1

    @property
    def in_flight(self) -> int:
        """Blocks not yet returned by ``ended``."""
        return len(self._futures)

    def submit(self, clips: Sequence[Clip]) -> None:
        """Starts a block."""
        future = self._threads.submit(self._extractor.extract, clips, self._tell)
        self._futures[future] = tuple(clips)

    def ended(self) -> list[BlockEnd]:
        """Returns blocks that are over."""
        done, _ = wait(self._futures, _WAIT_SECONDS, FIRST_COMPLETED)
        ends = []
        for future in done:
            clips = self._futures.pop(future)
            error = future.exception()
            report = None if error else future.result()
            ends.append(BlockEnd(clips=clips, report=report, error=error))
        return ends

    def close(self) -> None:
        """Drops blocks still running: their clips are pending again."""
        self._extractor.close()
        self._threads.shutdown(cancel_futures=True)


class DaskRunner:
    """Runs blocks as tasks of a Dask client. Nothing is known to the scheduler but the clips."""

    def __init__(
        self, client: "Client", settings: BlockSettings, tell: Callable[[ClipDone], None]
    ) -> None:
        self._client = client
        self._settings = settings
        self._futures: dict[DaskFuture[BlockReport], tuple[Clip, ...]] = {}
        self._over: queue.SimpleQueue[DaskFuture[BlockReport]] = queue.SimpleQueue()
        client.subscribe_topic(_TOPIC, lambda event: tell(ClipDone(**event[1]["clip"])))

    @property
    def capacity(self) -> int:
        """All threads of all workers, and a block waiting at each worker."""
        threads = self._client.nthreads()
        return int(max(sum(threads.values()) + len(threads), 1))

    @property
    def in_flight(self) -> int:
        """Blocks not yet returned by ``ended``."""
        return len(self._futures)

    def submit(self, clips: Sequence[Clip]) -> None:
        """Starts a block."""
        future = self._client.submit(
            _run_block, self._settings, tuple(clips), pure=False, key=f"block-{os.urandom(8).hex()}"
        )
        self._futures[future] = tuple(clips)
        future.add_done_callback(self._over.put)

    def ended(self) -> list[BlockEnd]:
        """Returns blocks that are over."""
        try:
            done = [self._over.get(timeout=_WAIT_SECONDS)]
        except queue.Empty:
            return []
        while not self._over.empty():
            done.append(self._over.get())
        return [self._end(future) for future in done]

    def _end(self, future: "DaskFuture[BlockReport]") -> BlockEnd:
        from distributed import KilledWorker

        clips = self._futures.pop(future)
        if future.status == "finished":
            return BlockEnd(clips=clips, report=future.result())
        error = future.exception() if future.status == "error" else None
        if error is None or isinstance(error, KilledWorker):
            error = WorkerLost(f"workers died on a block of {len(clips)} clips")
        return BlockEnd(clips=clips, report=None, error=error)


@contextmanager
def runner_for(
    settings: BlockSettings,
    tell: Callable[[ClipDone], None],
    *,
    workers: int,
    scheduler: str | None,
) -> Iterator[BlockRunner]:
    """Starts what is needed to run blocks, and ends it.

    Args:
        settings: the job.
        tell: called for every clip, from any thread.
        workers: worker processes; 0 for none beside this one.
        scheduler: address of a running Dask scheduler to use in place of local workers.
    """
    if scheduler is None and workers == 0:
        runner = LocalRunner(settings, tell)
        try:
            yield runner
        finally:
            runner.close()
        return
    import dask
    from distributed import Client

    settings_of_dask = {
        "distributed.scheduler.allowed-failures": _DEATHS_PER_BLOCK,
        "distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT,
    }
    with _quiet_dask(), dask.config.set(settings_of_dask):
        cluster = None if scheduler else _local_cluster(settings, workers)
        client = Client(scheduler or cluster, set_as_default=False)
        try:
            yield DaskRunner(client, settings, tell)
        finally:
            client.close(timeout=_CLOSE_SECONDS)
            if cluster is not None:
                cluster.close(timeout=_CLOSE_SECONDS)


def _local_cluster(settings: BlockSettings, workers: int) -> "LocalCluster":
    """Worker processes of this machine, reachable from it alone."""
    from distributed import LocalCluster

    with _signals_ignored_by_children():
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=settings.encoders + 1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            # What a worker holds is bounded by its blocks in hand, which Dask cannot see.
            memory_limit=0,
        )


@contextmanager
def _quiet_dask() -> Iterator[None]:
    """Dask tells about every connection it opens and closes, on loggers with levels of their own.

    What matters of it, workers that die, the job says itself.
    """
    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _signals_ignored_by_children() -> Iterator[None]:
    """Ctrl-C goes to a whole process group; workers are to finish their blocks all the same."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_opening = threading.Lock()


@functools.lru_cache(maxsize=1)
def _extractor_of(settings: BlockSettings) -> "BlockExtractor":
    """One encoder per worker process, made by the first block and kept for the others."""
    from extract.block import BlockExtractor

    extractor = BlockExtractor(settings)
    atexit.register(extractor.close)
    return extractor


def _run_block(settings: BlockSettings, clips: Sequence[Clip]) -> BlockReport:
    """The Dask task."""
    from distributed import get_worker

    worker = get_worker()
    with _opening:
        extractor = _extractor_of(_on_own_device(settings, worker.name))

    def tell(done: ClipDone) -> None:
        message = {"clip_id": done.clip_id, "ok": done.ok, "frames": done.frames}
        worker.log_event(_TOPIC, {"clip": message})

    return extractor.extract(clips, tell)


def _on_own_device(settings: BlockSettings, worker_name: object) -> BlockSettings:
    """Spreads the workers of a local cluster, which are named 0, 1, 2, ..., over the GPUs."""
    if settings.spec.device != "cuda" or not isinstance(worker_name, int):
        return settings
    import torch

    device = f"cuda:{worker_name % max(torch.cuda.device_count(), 1)}"
    return replace(settings, spec=replace(settings.spec, device=device))
