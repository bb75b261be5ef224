"""Blocks as tasks of Dask workers: of this machine, of a scheduler's address, or of SLURM jobs."""

# distributed annotates only part of what it exports.
# mypy: allow-untyped-calls

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import dask
from distributed import Client, KilledWorker, LocalCluster
from distributed.deploy.cluster import Cluster

from cache_schema import Clip, InputError, VideoDistillError
from extract.block_records import BlockReport, BlockSettings, ClipDone
from extract.runner import WAIT_SECONDS, BlockEnd, WorkerChoice, WorkerLost
from extract.worker_environment import WORKER_ENVIRONMENT
from extract.worker_task import CLIPS_TOPIC, report_versions, run_block, worker_name
from extract.worker_versions import MixedVersions, require_same, versions_here

if TYPE_CHECKING:
    from distributed import Future as DaskFuture

_CONNECT_SECONDS: Final = 15
_CLOSE_SECONDS: Final = 30
# Deaths of workers that a block may meet before it is tried with no other in hand.
_DEATHS_PER_BLOCK: Final = 2


class SchedulerLost(VideoDistillError):  # noqa: N818 -- says what is the case
    """The scheduler died or cannot be reached any more; blocks in hand are not known of."""


class DaskRunner:
    """Runs blocks as tasks of a Dask client. Nothing is known to the scheduler but the clips.

    Raises:
        MixedVersions: a worker would make other features than this process.
    """

    def __init__(
        self, client: Client, settings: BlockSettings, tell: Callable[[ClipDone], None]
    ) -> None:
        self._client = client
        self._settings = settings
        self._address = client.scheduler_info(n_workers=0)["address"]
        self._futures: dict[DaskFuture[BlockReport], tuple[Clip, ...]] = {}
        self._over: queue.SimpleQueue[DaskFuture[BlockReport]] = queue.SimpleQueue()
        self._versions = versions_here(settings.spec)
        self._require_same_versions()

        def on_event(event: tuple[object, dict[str, object]]) -> None:
            # A scheduler may serve several jobs.
            if event[1]["job"] == settings.job:
                tell(ClipDone(**event[1]["clip"]))  # type: ignore[arg-type]

        client.subscribe_topic(CLIPS_TOPIC, on_event)

    @property
    def capacity(self) -> int:
        """All threads of all workers, and a block waiting at each worker."""
        if self._client.status != "running":
            return 1
        try:
            threads = self._client.nthreads()
        except OSError:  # the scheduler went between two looks; `submit` or `ended` will tell
            return 1
        return int(max(sum(threads.values()) + len(threads), 1))

    @property
    def in_flight(self) -> int:
        """Blocks not yet returned by ``ended``."""
        return len(self._futures)

    def submit(self, clips: Sequence[Clip]) -> None:
        """Starts a block.

        Raises:
            SchedulerLost: there is no connection any more.
        """
        if self._client.status != "running":
            raise self._lost()
        future = self._client.submit(
            run_block,
            self._settings,
            tuple(clips),
            self._versions,
            pure=False,
            key=f"block-{os.urandom(8).hex()}",
        )
        self._futures[future] = tuple(clips)
        future.add_done_callback(self._over.put)

    def ended(self) -> list[BlockEnd]:
        """Returns blocks that are over."""
        try:
            done = [self._over.get(timeout=WAIT_SECONDS)]
        except queue.Empty:
            return []
        while not self._over.empty():
            done.append(self._over.get())
        return [self._end(future) for future in done]

    def _end(self, future: "DaskFuture[BlockReport]") -> BlockEnd:
        clips = self._futures.pop(future)
        try:
            error = future.exception()
            if error is None:
                return BlockEnd(clips=clips, report=future.result())
        except (CancelledError, OSError):
            # Nobody here cancels a block: the scheduler has forgotten it, or is gone. What went wrong
            # inside a block is returned, not raised; an OSError is of the connection.
            error = self._lost()
        if isinstance(error, KilledWorker):
            error = WorkerLost(f"workers died on a block of {len(clips)} clips")
        return BlockEnd(clips=clips, report=None, error=error)

    def _lost(self) -> SchedulerLost:
        return SchedulerLost(
            f"The Dask scheduler at {self._address} is gone, or has forgotten this job. What was "
            "committed is kept: run the same command again, with a scheduler that runs."
        )

    def _require_same_versions(self) -> None:
        found = self._client.run(report_versions, self._settings.spec, on_error="return")
        names = {
            address: worker_name(worker["name"], address)
            for address, worker in self._client.scheduler_info(n_workers=-1)["workers"].items()
        }
        for address, versions in found.items():
            name = names.get(address, address)
            if isinstance(versions, BaseException):
                raise MixedVersions(
                    f"Worker {name} cannot run this project ({versions!r}); install the same "
                    "version there, and start the worker in that environment."
                )
            require_same(self._versions, versions, name)


@contextmanager
def dask_runner(
    settings: BlockSettings,
    tell: Callable[[ClipDone], None],
    note: Callable[[str], None],
    *,
    workers: WorkerChoice,
) -> Iterator[DaskRunner]:
    """Starts workers, or connects to them, and lets them go at the end; as ``runner_for``."""
    settings_of_dask = {
        "distributed.scheduler.allowed-failures": _DEATHS_PER_BLOCK,
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    }
    with (
        _quiet_dask(),
        dask.config.set(settings_of_dask),
        _cluster(settings, workers) as cluster,
        _client(cluster or workers.scheduler) as client,
    ):
        if workers.slurm is not None:
            note(f"{workers.slurm.jobs} SLURM jobs are asked for; blocks wait for the first")
        elif not client.nthreads():
            note(f"no worker is connected to {workers.scheduler} yet; blocks wait for one")
        yield DaskRunner(client, settings, tell)


@contextmanager
def _client(where: Cluster | str | None) -> Iterator[Client]:
    try:
        client = Client(where, set_as_default=False, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError(
            f"No Dask scheduler answers at {where}: {error}. Start one with `dask scheduler`, and "
            "give the address that it prints."
        ) from error
    try:
        yield client
    finally:
        client.close(timeout=_CLOSE_SECONDS)


@contextmanager
def _cluster(settings: BlockSettings, workers: WorkerChoice) -> Iterator[Cluster | None]:
    if workers.scheduler is not None:
        yield None
        return
    if workers.slurm is not None:
        from extract.slurm_cluster import slurm_cluster

        with slurm_cluster(workers.slurm, settings.encoders + 1) as jobs:
            yield jobs
        return
    with _signals_ignored_by_children():
        cluster = LocalCluster(
            n_workers=workers.local,
            threads_per_worker=settings.encoders + 1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            # What a worker holds is bounded by its blocks in hand, which Dask cannot see.
            memory_limit=0,
        )
    try:
        yield cluster
    finally:
        cluster.close(timeout=_CLOSE_SECONDS)


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
