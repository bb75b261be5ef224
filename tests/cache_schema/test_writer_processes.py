"""Real processes: racing for clips, and killed in the middle of their work."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import FeatureIdentity, StoreWriter, open_store, verify_store

Start = Callable[..., subprocess.Popen[str]]
IDS = [f"c{number:02d}" for number in range(24)]

_RACE = """
import sys, conftest, cache_schema
store, name, attempt = sys.argv[1:]
ids = [f"c{number:02d}" for number in range(24)]
written = []
with cache_schema.StoreWriter(store, conftest.make_identity(), job=name) as writer:
    while todo := writer.pending(ids):
        claim = writer.claim(todo[:4])
        if claim is None:
            continue
        pairs = [conftest.features(clip, writer.identity, int(attempt)) for clip in claim.clip_ids]
        outcomes = [conftest.ok_outcome(clip) for clip in claim.clip_ids]
        cls, patch = (conftest.np.stack(part) for part in zip(*pairs))
        writer.write_block(claim, outcomes, cls, patch)
        written += claim.clip_ids
    writer.compact()
print(*written)
"""

_SLOW = """
import sys, time, conftest, cache_schema
from cache_schema.storage.local_storage import LocalStorage
real, calls = LocalStorage.create, [0]
def slowly(self, key, content, **options):
    if not key.startswith("claims/"):
        calls[0] += 1
        print(calls[0], flush=True)
        time.sleep(0.02)
    return real(self, key, content, **options)
LocalStorage.create = slowly
ids = [f"c{number:02d}" for number in range(24)]
writer = cache_schema.StoreWriter(sys.argv[1], conftest.make_identity(), job="killed")
conftest.write_clips_of(writer, ids)
"""


def _lines(process: subprocess.Popen[str], count: int) -> None:
    for _ in range(count):
        assert process.stdout.readline()


def test_racing_jobs_share_the_clips_and_lose_none(
    empty_store: Path, identity: FeatureIdentity, features: Callable, run_python: Start
) -> None:
    jobs = [run_python(_RACE, empty_store, f"job-{number}", number) for number in range(3)]
    written = [job.communicate(timeout=120)[0].split() for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0, 0]
    assert sorted(clip_id for ids in written for clip_id in ids) == IDS
    store = open_store(empty_store)
    assert store.clip_ids == IDS
    for attempt, clip_ids in enumerate(written):
        for clip_id in clip_ids:
            cls, patch = features(clip_id, identity, attempt)
            np.testing.assert_array_equal(store.read_cls([clip_id])[0], cls)
            np.testing.assert_array_equal(store.read_patches([clip_id])[0], patch)
    assert [f for f in verify_store(empty_store) if f.severity != "notice"] == []


@pytest.fixture(params=[1, 2, 4, 6, 7, 13])
def writes_before_death(
    request: pytest.FixtureRequest, empty_store: Path, run_python: Start
) -> int:
    """Runs a job on the empty store, and kills it after so many writes began."""
    process = run_python(_SLOW, empty_store)
    _lines(process, request.param)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    process.stdout.close()
    return request.param


def test_a_killed_job_leaves_nothing_half_done(
    empty_store: Path,
    identity: FeatureIdentity,
    features: Callable,
    write_clips_of: Callable,
    writes_before_death: int,
) -> None:
    # A block of four clips is six writes: four patch shards, the cls shard, the commit.
    writes = writes_before_death
    done = len(list((empty_store / "commits").glob("0*")))
    assert done in {(writes - 1) // 6, writes // 6}
    with StoreWriter(empty_store, identity, job="resumed") as writer:
        pending = writer.pending(IDS)
        assert pending == IDS[4 * done :]
        write_clips_of(writer, pending, attempt=1)
        writer.compact()
    store = open_store(empty_store)
    expected = [features(clip_id, identity, int(n >= 4 * done))[1] for n, clip_id in enumerate(IDS)]
    np.testing.assert_array_equal(store.read_patches(IDS), np.stack(expected))
    left = {finding.code for finding in verify_store(empty_store)}
    assert left <= {"uncommitted", "temporary"}


def test_a_job_that_hangs_keeps_its_clips_and_a_dead_one_gives_them_up(
    empty_store: Path, identity: FeatureIdentity, run_python: Start
) -> None:
    process = run_python(_SLOW, empty_store)
    _lines(process, 1)
    process.send_signal(signal.SIGSTOP)
    with StoreWriter(empty_store, identity) as writer:
        time.sleep(0.1)
        assert writer.pending(IDS) == IDS[4:]
        process.send_signal(signal.SIGKILL)
        # The process stays a zombie until its parent asks for it: dead is dead all the same.
        for _ in range(100):
            if writer.pending(IDS) == IDS:
                break
            time.sleep(0.05)
        assert writer.pending(IDS) == IDS
    process.wait(timeout=60)
    process.stdout.close()
