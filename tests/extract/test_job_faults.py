import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cache_schema import Status, create_store, open_store
from extract import block_queue
from extract.block_records import BlockReport
from extract.encoder_spec import identity_of
from extract.job import JobOptions, run_extraction
from extract.runner import BlockEnd, WorkerLost
from tests.extract.disturbed_jobs import (
    FRAMES,
    assert_same_features,
    commits,
    cut_clips,
    damage,
    wait_for_commits,
)

CLIPS = 48
OPTIONS = JobOptions(decoders=1)

SCRIPT = """
import sys
from pathlib import Path
from cache_schema import read_clips
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, run_extraction
from extract.progress import LogProgress

if __name__ == "__main__":
    import logging
    logging.basicConfig(level=logging.INFO)
    folder, store, config, weights, workers = sys.argv[1:]
    tally = run_extraction(
        read_clips(Path(folder) / "clips.csv", Path(folder)),
        Path(store),
        EncoderSpec(model="tiny", model_config=Path(config), weights=Path(weights)),
        frames=6,
        workers=int(workers),
        progress=LogProgress(),
        options=JobOptions(decoders=1),
    )
    sys.exit(tally.exit_code)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    (folder / "script.py").write_text(textwrap.dedent(SCRIPT))
    return folder


@pytest.fixture(scope="module")
def clips(folder, encode_video):
    return cut_clips(folder, CLIPS, encode_video)


@pytest.fixture(scope="module")
def calm(clips, tiny_spec, tmp_path_factory):
    """The store of a job that nobody disturbed."""
    store = tmp_path_factory.mktemp("calm") / "s"
    tally = run_extraction(clips, store, tiny_spec, frames=FRAMES, workers=0, options=OPTIONS)
    assert tally.ok == CLIPS
    return open_store(store)


@pytest.fixture
def store(tiny_spec, tmp_path):
    """An empty store of small blocks, so that a job can be caught between them."""
    path = tmp_path / "s"
    create_store(path, identity_of(tiny_spec, FRAMES), block_slots=2, segment_slots=64)
    return path


@contextmanager
def started_job(folder, store, spec, workers):
    command = [sys.executable, str(folder / "script.py"), str(folder), str(store)]
    command += [str(spec.model_config), str(spec.weights), str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "workers", [0, pytest.param(1, marks=pytest.mark.slow)], ids=["in one process", "dask"]
)
def test_a_killed_job_goes_on_where_it_was(folder, clips, calm, store, tiny_spec, workers):
    with started_job(folder, store, tiny_spec, workers) as process:
        wait_for_commits(store, 3)
        process.kill()
        process.wait()
    done = commits(store)
    tally = run_extraction(clips, store, tiny_spec, frames=FRAMES, workers=0, options=OPTIONS)
    assert tally.ok + tally.skipped == CLIPS
    assert tally.skipped >= 3  # what was committed is kept
    assert done >= 3
    assert_same_features(store, calm, clips)


def test_a_stopped_job_ends_in_order(folder, clips, calm, store, tiny_spec):
    with started_job(folder, store, tiny_spec, 0) as process:
        wait_for_commits(store, 1)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped; run the same command to continue" in log
    partial = open_store(store)  # compacted, and without a broken block
    assert 0 < len(partial) < CLIPS
    assert damage(store) == []
    tally = run_extraction(clips, store, tiny_spec, frames=FRAMES, workers=0, options=OPTIONS)
    assert tally.skipped == len(partial)
    assert_same_features(store, calm, clips)


def dask_workers():
    """Worker processes below this one; decode processes are their children."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if any("spawn_main" in part for part in child.cmdline())
    ]


@pytest.mark.slow
def test_a_job_outlives_its_dask_worker(clips, calm, store, tiny_spec):
    killed = []

    def kill_worker():
        wait_for_commits(store, 3)
        for worker in dask_workers():
            worker.kill()
            killed.append(worker.pid)

    killer = threading.Thread(target=kill_worker)
    killer.start()
    tally = run_extraction(clips, store, tiny_spec, frames=FRAMES, workers=1, options=OPTIONS)
    killer.join()
    assert killed
    assert (tally.ok, tally.failed, tally.left) == (CLIPS, 0, 0)
    assert_same_features(store, calm, clips)


class WorkersThatDieOf:
    """A runner whose workers do every block but those with one clip."""

    def __init__(self, poison, extract):
        self.poison, self.extract = poison, extract
        self.blocks, self.lost = [], []
        self.capacity = 2

    @property
    def in_flight(self):
        return len(self.blocks)

    def submit(self, clips):
        self.blocks.append(tuple(clips))

    def ended(self):
        clips = self.blocks.pop(0)
        if any(clip.clip_id == self.poison for clip in clips):
            self.lost.append(len(clips))
            return [BlockEnd(clips=clips, report=None, error=WorkerLost("died"))]
        return [BlockEnd(clips=clips, report=self.extract(clips))]


def test_a_poison_clip_fails_alone(clips, store, tiny_spec, monkeypatch):
    from extract.block import BlockExtractor

    runners = []

    @contextmanager
    def poisoned(settings, tell, note, **_choices):
        extractor = BlockExtractor(settings)
        runners.append(WorkersThatDieOf("clip5", lambda block: extractor.extract(block, tell)))
        try:
            yield runners[0]
        finally:
            extractor.close()

    monkeypatch.setattr(block_queue, "runner_for", poisoned)
    tally = run_extraction(clips[:12], store, tiny_spec, frames=FRAMES, options=OPTIONS)
    assert (tally.ok, tally.failed, tally.left) == (11, 1, 0)
    assert runners[0].lost[-1] == 1
    outcome = open_store(store).outcome("clip5")
    assert (outcome.status, outcome.reason) == (Status.FAILED, "crashed")


def test_an_error_of_the_store_ends_the_job(clips, store, tiny_spec, monkeypatch):
    """A full disk is nobody's fault among the clips: they stay pending."""

    class FullDisk:
        capacity = 1
        in_flight = 1

        def submit(self, block):
            raise AssertionError(f"{block} was submitted while a block was in flight")

        def ended(self):
            return [BlockEnd(clips=(), report=None, error=OSError(28, "No space left on device"))]

    @contextmanager
    def full(settings, tell, note, **_choices):
        yield FullDisk()

    monkeypatch.setattr(block_queue, "runner_for", full)
    with pytest.raises(OSError, match="No space left"):
        run_extraction(clips[:4], store, tiny_spec, frames=FRAMES, options=OPTIONS)
    assert len(open_store(store)) == 0


def test_blocks_that_report_nothing_are_looked_at_again(clips, store, tiny_spec, monkeypatch):
    """A worker taken for dead reports no clips; the job asks the store and stops without progress."""
    submitted = []

    class Idle:
        capacity = 4

        def __init__(self):
            self.blocks = []

        @property
        def in_flight(self):
            return len(self.blocks)

        def submit(self, block):
            submitted.extend(clip.clip_id for clip in block)
            self.blocks.append(tuple(block))

        def ended(self):
            return [BlockEnd(clips=self.blocks.pop(0), report=BlockReport(clip_ids=()))]

    @contextmanager
    def idle(settings, tell, note, **_choices):
        yield Idle()

    monkeypatch.setattr(block_queue, "runner_for", idle)
    tally = run_extraction(clips[:6], store, tiny_spec, frames=FRAMES, options=OPTIONS)
    assert (tally.ok, tally.left) == (0, 6)
    assert tally.exit_code == 1
    assert submitted == [clip.clip_id for clip in clips[:6]]
