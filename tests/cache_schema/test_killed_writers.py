"""Killed at any moment, by the hundred: what was committed stays, and the store ends up the same."""

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schema import (
    FeatureIdentity,
    FeatureStore,
    StoreAbsent,
    StoreWriter,
    open_store,
    verify_store,
)

IDS = [f"c{number:02d}" for number in range(24)]
OK_IDS = [clip_id for clip_id in IDS if clip_id != "c07"]


Writers = Any
"""A ``conftest.Zygote``."""


def contents(store: FeatureStore) -> tuple[object, ...]:
    """All that a store says about its clips, but not where it keeps them."""
    rows = [store.outcome(clip_id).to_json() for clip_id in IDS]
    return (
        store.clip_ids,
        rows,
        store.read_cls(store.clip_ids).tobytes(),
        store.read_patches(store.clip_ids).tobytes(),
    )


def wrongs(path: Path) -> list[str]:
    return [str(found) for found in verify_store(path) if found.severity != "notice"]


@pytest.fixture(scope="module")
def calm(zygote: Writers, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """What the store of undisturbed writers says."""
    path = tmp_path_factory.mktemp("calm") / "store"
    zygote.run(path, [IDS, IDS])
    return contents(open_store(path))


def killed_after(zygote: Writers, store: Path, seconds: float) -> bool:
    """Starts two writers and kills both after a while; tells whether they were still at work."""
    group = zygote.start(store, [IDS, IDS[::-1]])
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return zygote.ended() is None


def require_sound(path: Path, identity: FeatureIdentity, features: Callable) -> int:
    """Checks a store that was just killed; returns how many clips are committed."""
    told_file = path.with_name(f"{path.name}.told")
    told = set(told_file.read_text().split()) if told_file.exists() else set()
    try:
        assert wrongs(path) == []
    except StoreAbsent:
        assert not told
        return 0
    # As a reader sees it after a fold; folding is what any later job does.
    with StoreWriter(path, identity, job="check") as writer:
        writer.compact()
    store = open_store(path)
    known = {row["clip_id"] for row in store.manifest().to_pylist()}
    assert told <= known, "a block that was said to be committed is not there"
    for clip_id in store.clip_ids:
        cls, patch = features(clip_id, identity)
        np.testing.assert_array_equal(store.read_cls([clip_id])[0], cls)
        np.testing.assert_array_equal(store.read_patches([clip_id])[0], patch)
    return len(known)


@pytest.mark.parametrize(
    "rounds", [20, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_killed_writers_lose_nothing_that_was_committed(
    rounds: int,
    zygote: Writers,
    calm: tuple[object, ...],
    identity: FeatureIdentity,
    features: Callable,
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    begin = time.monotonic()
    zygote.run(tmp_path / "timed" / "store", [IDS, IDS[::-1]])
    whole_s = time.monotonic() - begin
    seen: Counter[str] = Counter()
    for number in range(rounds):
        path = tmp_path / str(number) / "store"
        committed = 0
        for _ in range(rng.randint(1, 2)):
            left_s = whole_s * (1 - committed / len(IDS))
            at_work = killed_after(zygote, path, rng.uniform(0, left_s))
            seen["killed at work" if at_work else "killed too late"] += 1
            committed = require_sound(path, identity, features)
            seen["half way" if 0 < committed < len(IDS) else "nothing or all"] += 1
        zygote.run(path, [IDS, IDS[::-1]])
        assert wrongs(path) == [], f"seed {seed}, round {number}"
        assert contents(open_store(path)) == calm, f"seed {seed}, round {number}"
        codes = Counter(found.code for found in verify_store(path))
        seen.update(f"left over: {code}" for code in codes)
    found = f"seed {seed}, {rounds} rounds of writers that take {whole_s:.2f} s: {dict(seen)}"
    sys.stdout.write(f"{found}\n")
    # Kills must fall into the work, or nothing was tried.
    assert seen["killed at work"] >= rounds / 2
    assert seen["half way"] >= rounds / 5


def commits_of(path: Path) -> Counter[str]:
    """How often each clip is committed."""
    documents = [json.loads(file.read_bytes()) for file in sorted((path / "commits").iterdir())]
    return Counter(
        clip["outcome"]["clip_id"] for document in documents for clip in document["clips"]
    )


def test_eight_writers_started_at_once_make_one_store(
    zygote: Writers, calm: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / "at-once" / "store"
    zygote.run(path, [IDS] * 8)
    assert commits_of(path) == dict.fromkeys(IDS, 1)
    assert wrongs(path) == []
    assert contents(open_store(path)) == calm
    assert sorted(file.name for file in path.parent.iterdir()) == ["store", "store.told"]


def test_writers_with_overlapping_lists_do_every_clip_once(
    zygote: Writers, calm: tuple[object, ...], tmp_path: Path
) -> None:
    path = tmp_path / "overlapping" / "store"
    zygote.run(path, [IDS[:12], IDS[6:18], IDS[12:], IDS[::-2]])
    left = set(IDS) - set(commits_of(path))
    zygote.run(path, [IDS] * 8)
    assert left <= set(IDS)
    assert commits_of(path) == dict.fromkeys(IDS, 1)
    assert wrongs(path) == []
    assert contents(open_store(path)) == calm
