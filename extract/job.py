"""A whole extraction: plan it, run its blocks, survive what dies, and account for every clip."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cache_schema import Clip, FeatureIdentity, StoreAbsent, StoreWriter, create_store
from cache_schema.storage.storage import is_url
from extract.block_queue import SMALL_JOB_CLIPS, BlockQueue
from extract.block_records import BlockReport
from extract.core_count import cores_here
from extract.decode_pool import DecodePool
from extract.encoder_spec import EncoderSpec, identity_of
from extract.job_options import JobOptions
from extract.plan import ExtractionPlan, plan_of
from extract.progress import OneAtATime, ProgressDisplay, Silent
from extract.stop_request import StopRequest
from extract.tally import Tally, tally_of, write_failures

__all__ = ["JobOptions", "plan_extraction", "run_extraction"]


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
    display = OneAtATime(progress or Silent())
    reports: list[BlockReport] = []
    stop = StopRequest()
    with _decoders_ahead(len(clips), workers, options) as decoders:
        identity = _identity(spec, frames, options)
        plan = plan_of(clips, location, identity, retry_failed=retry_failed)
        display.start(plan)
        if plan.pending:
            plan.require_room()
            if options.backend != "pyav":
                # A library that is not here is said at once. Loaded only for those who ask for it.
                from extract.decoder_choice import load_decoder

                load_decoder(options.backend)
            create_store(location, identity)
            job = BlockQueue(
                clips=clips, location=location, spec=spec, plan=plan, options=options,
                display=display, stop=stop, decoders=decoders,
            )  # fmt: skip
            reports = job.run(workers)
        else:
            _fold_late_commits(location, identity)
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


@contextmanager
def _decoders_ahead(
    clips: int, workers: int | None, options: JobOptions
) -> Iterator[DecodePool | None]:
    """Lets decode processes load their libraries while this process reads what the encoder is.

    Only where the work is to be done here, and there is some.
    """
    here = workers == 0 or (workers is None and clips <= SMALL_JOB_CLIPS)
    if clips == 0 or not here or options.scheduler or options.slurm:
        yield None
        return
    with DecodePool(options.decoders or cores_here(), options.limits) as decoders:
        yield decoders


def _fold_late_commits(location: str | os.PathLike[str], identity: FeatureIdentity) -> None:
    """Shows readers what workers have committed after their job had ended.

    Such a worker was suspended, or cut off, and taken for dead.
    """
    with suppress(StoreAbsent, OSError), StoreWriter(location, identity) as writer:
        writer.compact()


def _failures_file(location: str | os.PathLike[str]) -> Path:
    store = Path(location)
    name = f"{store.name}.failures.csv"
    return Path(name) if is_url(location) else store.with_name(name)


def _identity(spec: EncoderSpec, frames: int, options: JobOptions) -> FeatureIdentity:
    if spec.weights is not None:
        identity = identity_of(spec, frames)
    else:
        from extract.encoder import load_encoder

        identity = load_encoder(spec).identity(frames)
    return identity.reduced(pool=options.pool, int8=options.int8)
