"""Where blocks run: in this process, or as Dask tasks on local or foreign workers."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from cache_schema import Clip, VideoDistillError
from extract.block_records import BlockReport, BlockSettings, ClipDone
from extract.decode_pool import DecodePool
from extract.slurm_options import SlurmOptions

WAIT_SECONDS: Final = 0.5
"""How long ``BlockRunner.ended`` waits for a block."""


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

    def __init__(
        self,
        settings: BlockSettings,
        tell: Callable[[ClipDone], None],
        decoders: DecodePool | None = None,
    ) -> None:
        # Loads torch and the encoder, which a job without pending clips never needs.
        from extract.block import BlockExtractor

        self._extractor: BlockExtractor = BlockExtractor(settings, decoders)
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
        done, _ = wait(self._futures, WAIT_SECONDS, FIRST_COMPLETED)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerChoice:
    """Which processes are to do the work."""

    local: int
    """Worker processes of this machine; 0 for none beside this one."""
    scheduler: str | None = None
    """Address of a running Dask scheduler to use instead."""
    slurm: SlurmOptions | None = None
    """Jobs of a SLURM cluster to use instead."""


@contextmanager
def runner_for(
    settings: BlockSettings,
    tell: Callable[[ClipDone], None],
    note: Callable[[str], None],
    *,
    workers: WorkerChoice,
    decoders: DecodePool | None = None,
) -> Iterator[BlockRunner]:
    """Starts what is needed to run blocks, and ends it.

    Args:
        settings: the job.
        tell: called for every clip, from any thread.
        note: called with what a person should know.
        workers: which processes do the work.
        decoders: decode processes that have been started ahead, for work in this process.

    Raises:
        InputError: no scheduler answers, or what SLURM needs is not here.
        MixedVersions: a worker would make other features than this process.
    """
    if workers.local or workers.scheduler or workers.slurm:
        # Loaded only by jobs that are large enough to need it.
        from extract.dask_runner import dask_runner

        if decoders is not None:
            decoders.close()
        with dask_runner(settings, tell, note, workers=workers) as runner:
            yield runner
        return
    local = LocalRunner(settings, tell, decoders)
    try:
        yield local
    finally:
        local.close()
