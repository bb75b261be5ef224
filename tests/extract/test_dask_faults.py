"""Real schedulers and workers of Dask that die, stop, or are not what they should be."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cache_schema import create_store, open_store
from extract.dask_runner import SchedulerLost
from extract.encoder_spec import identity_of
from extract.job import JobOptions, run_extraction
from extract.worker_versions import MixedVersions, require_same, versions_here
from tests.extract.disturbed_jobs import (
    FRAMES,
    assert_same_features,
    commits,
    cut_clips,
    wait_for_commits,
)

CLIPS = 24
ROOT = Path(__file__).parents[2]

# Kills the worker process the first time that it comes to a place; the file is there once it did.
DEATH = """
import os, signal
from pathlib import Path

def once(flag):
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

def before(cls, name, flag, calls=2):
    method, seen = getattr(cls, name), []
    def dying(*args, **kwargs):
        seen.append(1)
        if len(seen) > calls:
            once(flag)
        return method(*args, **kwargs)
    setattr(cls, name, dying)

def after(cls, name, flag):
    method = getattr(cls, name)
    def dying(*args, **kwargs):
        value = method(*args, **kwargs)
        once(flag)
        return value
    setattr(cls, name, dying)

def dask_setup(worker):
    flag = {flag!r}
    if {place!r} == "decode":
        from extract.decode_pool import DecodePool
        before(DecodePool, "submit", flag)
    elif {place!r} == "encode":
        from extract.encoder import ClipEncoder
        before(ClipEncoder, "start", flag)
    elif {place!r} == "write":
        from cache_schema.storage.local_storage import LocalStorage
        before(LocalStorage, "create", flag, calls=3)
    else:
        from cache_schema import StoreWriter
        after(StoreWriter, "write_block", flag)
"""

OTHER_VERSIONS = """
import importlib.metadata

def doctored(name, version=importlib.metadata.version):
    return "0.1.2" if name == "av" else version(name)

importlib.metadata.version = doctored

def dask_setup(worker):
    pass
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory, encode_video):
    return cut_clips(tmp_path_factory.mktemp("videos"), CLIPS, encode_video)


@pytest.fixture(scope="module")
def calm(clips, tiny_spec, tmp_path_factory):
    """The store of a job that nobody disturbed."""
    store = tmp_path_factory.mktemp("calm") / "s"
    tally = run_extraction(
        clips, store, tiny_spec, frames=FRAMES, workers=0, options=JobOptions(decoders=1)
    )
    assert tally.ok == CLIPS
    return open_store(store)


@pytest.fixture
def store(tiny_spec, tmp_path):
    """An empty store of small blocks, so that a job can be caught between them."""
    path = tmp_path / "s"
    create_store(path, identity_of(tiny_spec, FRAMES), block_slots=2, segment_slots=64)
    return path


class Cluster:
    """A scheduler and workers, each a process of its own, as people start them by hand."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.file = folder / "scheduler.json"
        self.scheduler = self.start("dask_scheduler", "--port", "0", "--no-dashboard")
        self.address = self.wait_for(
            lambda: self.file.is_file() and json.loads(self.file.read_text())["address"]
        )

    def start(self, program, *words):
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--host", "127.0.0.1"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "3s",
        }
        process = subprocess.Popen(
            [*command, "--scheduler-file", str(self.file), *words],
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.stack.callback(self.end, process)
        return process

    def worker(self, name="one", preload=None, nanny=True):
        words = ["--name", name, "--nthreads", "2", "--no-dashboard", "--memory-limit", "0"]
        words.append("--nanny" if nanny else "--no-nanny")
        if preload is not None:
            file = self.folder / f"preload_{name}.py"
            file.write_text(preload)
            words += ["--preload", str(file)]
        return self.start("dask_worker", *words)

    def end(self, process):
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        process.kill()
        process.wait()

    @staticmethod
    def wait_for(condition, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "what is waited for does not come"
            time.sleep(0.02)
        return value


@pytest.fixture
def cluster(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Cluster(tmp_path, stack)


def run(clips, store, spec, cluster=None):
    options = JobOptions(scheduler=cluster and cluster.address, decoders=1)
    return run_extraction(clips, store, spec, frames=FRAMES, workers=0, options=options)


@contextmanager
def meanwhile(action):
    """Runs something beside the job, and tells what went wrong in it."""
    errors = []

    def guarded():
        try:
            action()
        except (AssertionError, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join()
    assert errors == []


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("decode", marks=SLOW),
        pytest.param("encode", marks=SLOW),
        "write",
        pytest.param("commit", marks=SLOW),
    ],
)
def test_a_worker_dies_in(place, clips, calm, store, tiny_spec, cluster, tmp_path):
    flag = tmp_path / "died"
    cluster.worker(preload=DEATH.format(flag=str(flag), place=place))
    tally = run(clips, store, tiny_spec, cluster)
    assert flag.exists()
    assert (tally.ok, tally.failed, tally.left) == (CLIPS, 0, 0)
    assert_same_features(store, calm, clips)


def test_the_scheduler_dies(clips, calm, store, tiny_spec, cluster):
    cluster.worker()

    def kill():
        wait_for_commits(store, 2)
        cluster.scheduler.kill()

    with meanwhile(kill), pytest.raises(SchedulerLost, match="run the same command again"):
        run(clips, store, tiny_spec, cluster)
    committed = commits(store)
    assert committed >= 2
    tally = run(clips, store, tiny_spec)
    assert tally.skipped >= 2
    assert tally.ok + tally.skipped == CLIPS
    assert_same_features(store, calm, clips)


CLIENT = """
import sys
from pathlib import Path
from cache_schema import read_clips
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, run_extraction

folder, store, config, weights, scheduler = sys.argv[1:]
run_extraction(
    read_clips(Path(folder) / "clips.csv", Path(folder)),
    store,
    EncoderSpec(model="tiny", model_config=Path(config), weights=Path(weights)),
    frames=6,
    options=JobOptions(decoders=1, scheduler=scheduler),
)
"""


@pytest.mark.slow
def test_the_client_dies_and_the_workers_take_the_next_job(clips, calm, store, tiny_spec, cluster):
    cluster.worker()
    paths = [clips[0].path.parent, store, tiny_spec.model_config, tiny_spec.weights]
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, *map(str, paths), cluster.address],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as client:
        wait_for_commits(store, 2)
        client.kill()
    tally = run(clips, store, tiny_spec, cluster)
    while tally.elsewhere or tally.left:  # blocks that the worker still has in hand of the dead job
        time.sleep(0.5)
        tally = run(clips, store, tiny_spec, cluster)
    assert_same_features(store, calm, clips)


@pytest.mark.slow
def test_a_worker_sleeps_past_its_time_out(clips, calm, store, tiny_spec, cluster):
    # A nanny would kill a worker that says nothing.
    sleeper = cluster.worker("sleeper", nanny=False)
    cluster.worker("other")
    asleep = []

    def put_to_sleep():
        wait_for_commits(store, 1)
        sleeper.send_signal(signal.SIGSTOP)
        asleep.append(sleeper)

    with meanwhile(put_to_sleep):
        tally = run(clips, store, tiny_spec, cluster)
    assert asleep
    assert tally.failed == 0
    sleeper.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + 60
    while tally.elsewhere or tally.left:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        tally = run(clips, store, tiny_spec)
    assert_same_features(store, calm, clips)


def test_a_worker_of_other_versions_is_refused(clips, store, tiny_spec, cluster):
    from distributed import Client

    cluster.worker("even")
    cluster.worker("odd", OTHER_VERSIONS)
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    with pytest.raises(MixedVersions, match=r"Worker odd at .* av: 0\.1\.2 there"):
        run(clips, store, tiny_spec, cluster)
    assert commits(store) == 0


@pytest.mark.parametrize("name", ["python", "torch", "av", "zarr", "code", "weights"])
def test_every_version_counts(tiny_spec, name):
    here = versions_here(tiny_spec)
    require_same(here, dict(here), "w")
    with pytest.raises(MixedVersions, match=f"Worker w differs.*{name}: other there"):
        require_same(here, {**here, name: "other"}, "w")


def test_no_scheduler_answers(clips, store, tiny_spec, monkeypatch):
    from cache_schema import InputError
    from extract import dask_runner

    monkeypatch.setattr(dask_runner, "_CONNECT_SECONDS", 1)
    options = JobOptions(scheduler="tcp://127.0.0.1:9", decoders=1)
    with pytest.raises(InputError, match="No Dask scheduler answers at tcp://127"):
        run_extraction(clips, store, tiny_spec, frames=FRAMES, options=options)
