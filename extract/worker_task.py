"""What a Dask worker runs: one block, with the encoder and decode processes that it keeps."""

# distributed annotates only part of what it exports.
# mypy: allow-untyped-calls

import atexit
import re
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cache_schema import Clip
from extract.block_records import BlockReport, BlockSettings, ClipDone
from extract.core_count import cores_here
from extract.encoder_spec import EncoderSpec
from extract.worker_versions import Versions, require_same, versions_here

if TYPE_CHECKING:
    from extract.block import BlockExtractor

CLIPS_TOPIC: Final = "videodistill-clips"
_IDLE_SECONDS: Final = 60.0
# Local workers are named 0, 1, 2, ...; those of one SLURM job end in -0, -1, -2, ...
_NUMBER: Final = re.compile(r"(?:^|-)(\d+)$")


class _Extractors:
    """The encoders of this process, one per job that has blocks in hand.

    What is idle for a minute is freed: its job is over, or the client that submitted it is gone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timer = threading.Timer(0, self.close_idle)
        self._made: dict[BlockSettings, BlockExtractor] = {}
        self._in_use: dict[BlockSettings, int] = {}
        atexit.register(self.close_idle)

    def take(self, settings: BlockSettings) -> "BlockExtractor":
        """Returns the job's extractor; makes it, and closes those of jobs that are over."""
        with self._lock:
            self._timer.cancel()
            if settings not in self._made:
                self._close_idle()
                from extract.block import BlockExtractor

                self._made[settings] = BlockExtractor(settings)
            self._in_use[settings] = self._in_use.get(settings, 0) + 1
            return self._made[settings]

    def give_back(self, settings: BlockSettings) -> None:
        """Ends one use."""
        with self._lock:
            self._in_use[settings] -= 1
            self._timer.cancel()
            self._timer = threading.Timer(_IDLE_SECONDS, self.close_idle)
            self._timer.daemon = True
            self._timer.start()

    def close_idle(self) -> None:
        """Frees the encoders and decode processes of jobs that have no block in hand."""
        with self._lock:
            self._close_idle()

    def _close_idle(self) -> None:
        for settings in [s for s in self._made if not self._in_use.get(s)]:
            self._made.pop(settings).close()
            self._in_use.pop(settings, None)


_extractors = _Extractors()


def run_block(settings: BlockSettings, clips: Sequence[Clip], expected: Versions) -> BlockReport:
    """Does one block on the worker that calls it.

    Args:
        settings: the job.
        clips: the block.
        expected: what the process that started the job runs.

    Raises:
        MixedVersions: this worker would make other features.
    """
    from distributed import get_worker

    worker = get_worker()
    # Here too: a worker may have joined after the job began.
    require_same(expected, _versions(settings.spec), worker_name(worker.name, worker.address))
    own = settings_of_worker(settings, worker.name, worker.state.nthreads)

    def tell(done: ClipDone) -> None:
        message = {"clip_id": done.clip_id, "ok": done.ok, "frames": done.frames}
        worker.log_event(CLIPS_TOPIC, {"job": settings.job, "clip": message})

    extractor = _extractors.take(own)
    try:
        return extractor.extract(clips, tell)
    finally:
        _extractors.give_back(own)


def report_versions(spec: EncoderSpec) -> Versions:
    """Tells what this worker would make features with."""
    return _versions(spec)


def worker_name(name: object, address: str) -> str:
    """Returns how a worker is called in messages."""
    return address if str(name) == address else f"{name} at {address}"


def settings_of_worker(settings: BlockSettings, name: object, threads: int) -> BlockSettings:
    """Fits a job's settings to one worker: its GPU, and its cores where the job does not know them.

    Args:
        settings: the job.
        name: the worker's name; its last number chooses the GPU.
        threads: the worker's Dask threads: one per block that may encode, and one more.
    """
    spec = settings.spec
    number = _NUMBER.search(str(name))
    if spec.device == "cuda" and number is not None:
        import torch

        spec = replace(spec, device=f"cuda:{int(number[1]) % max(torch.cuda.device_count(), 1)}")
    own = max(threads - 1, 1)
    return replace(
        settings,
        spec=spec,
        decoders=settings.decoders or max(own, _cores_on_gpu(spec.device)),
        encoders=settings.encoders or own,
    )


def _cores_on_gpu(device: str) -> int:
    return 0 if device == "cpu" else cores_here()


@lru_cache(maxsize=8)
def _versions(spec: EncoderSpec) -> dict[str, str]:
    return versions_here(spec)
