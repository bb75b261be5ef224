"""A store in use: read while it is written, folded, collected and copied; and writers that were asleep."""

import contextlib
import os
import shutil
import signal
import subprocess
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
    StoreWriter,
    VideoDistillError,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.blocks.block_claim import LEASE_S
from cache_schema.store_root import read_root
from cache_schema.upkeep.gc import collect
from cache_schema.upkeep.pins import pin_version

IDS = [f"c{number:02d}" for number in range(24)]
MORE = [f"d{number:02d}" for number in range(60)]
Writers = Any
"""A ``conftest.Zygote``."""


def make_old(path: Path) -> None:
    """Makes all files look older than what is spared in any case, but for three versions."""
    versions = sorted(path.glob("manifest/v*.json"))
    now = time.time()
    then = now - 2 * LEASE_S
    for file in path.rglob("*"):
        if file not in versions[-3:] and not file.name.startswith(".tmp-"):
            with contextlib.suppress(FileNotFoundError):
                # A part without its version yet is young in truth, too: who folds is at work.
                if not (file.name.startswith("part-") and now - file.stat().st_mtime < 1):
                    os.utime(file, (then, then))


def test_a_pinned_reader_sees_the_same_bytes_whatever_else_happens(
    filled, zygote: Writers, write_claimed: Callable
) -> None:
    reader = open_store(filled.path)
    pin_version(read_root(filled.path), "training")
    rows = reader.manifest().to_pylist()
    zygote.start(filled.path, [MORE[:30], MORE[20:]], pause_s=0.01)
    rounds, removed = 0, Counter[str]()
    with StoreWriter(filled.path, filled.identity, job="replacer") as writer:
        while True:
            before = {clip_id for clip_id in open_store(filled.path).clip_ids if clip_id in MORE}
            write_claimed(writer, writer.claim(["c1", "c5"], replace=True), attempt=rounds)
            writer.compact()
            make_old(filled.path)
            removed.update(item.kind for item in collect(filled.path, older_than_s=0).garbage)
            np.testing.assert_array_equal(reader.read_patches(filled.ok), filled.patch(filled.ok))
            np.testing.assert_array_equal(reader.read_cls(filled.ok), filled.cls(filled.ok))
            anew = open_store(filled.path, reader.version)
            np.testing.assert_array_equal(anew.read_patches(filled.ok), filled.patch(filled.ok))
            assert anew.manifest().to_pylist() == rows
            rounds += 1
            if len(before) == len(MORE):
                break
    assert zygote.ended() == [0, 0]
    assert rounds > 3
    assert removed["version"] > 0
    assert removed["replaced"] > 0
    assert [found for found in verify_store(filled.path) if found.severity != "notice"] == []


def test_a_copy_made_while_writing_is_sound_or_says_what_it_lacks(
    zygote: Writers, identity: FeatureIdentity, features: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "busy" / "store"
    create_store_of(path, identity)
    zygote.start(path, [IDS[:12], IDS[8:]], pause_s=0.02)
    copies = []
    for number in range(6):
        time.sleep(0.03)
        copies.append(tmp_path / f"copy-{number}")
        # As rsync does: names that vanish meanwhile are passed over.
        with contextlib.suppress(shutil.Error):
            shutil.copytree(path, copies[-1])
    assert zygote.ended() == [0, 0]
    incomplete = 0
    for copy in copies:
        try:
            store = open_store(copy)
            read = [(store.read_patches([clip_id])[0], clip_id) for clip_id in store.clip_ids]
            sound = all(found.severity != "error" for found in verify_store(copy))
        except VideoDistillError:
            incomplete += 1
            continue
        incomplete += not sound
        for patch, clip_id in read:
            np.testing.assert_array_equal(patch, features(clip_id, identity)[1])
    sys.stdout.write(f"{incomplete} of {len(copies)} copies lack something\n")
    # A second pass, when nobody writes, makes any of them whole.
    shutil.copytree(path, copies[0], dirs_exist_ok=True)
    assert {found.code for found in verify_store(copies[0])} <= {"temporary"}
    assert len(open_store(copies[0])) == len(open_store(path)) == 23


def create_store_of(path: Path, identity: FeatureIdentity) -> None:
    path.parent.mkdir()
    create_store(path, identity, block_slots=4, segment_slots=8)


_ASLEEP = """
import sys, conftest, cache_schema
from cache_schema.blocks import process_owner
# As on another machine: its process cannot be asked whether it lives.
process_owner._host = lambda: "elsewhere"
writer = cache_schema.StoreWriter(sys.argv[1], conftest.make_identity(), job="asleep", lease_s=0.5)
claim = writer.claim(["a", "b"])
writer.beat()
print("claimed", flush=True)
sys.stdin.readline()
try:
    conftest.write_claimed(writer, claim)
except cache_schema.StoreBusy as error:
    print(error)
"""


@pytest.mark.parametrize("done_before_waking", [True, False], ids=["after", "during"])
def test_a_writer_that_wakes_after_its_lease_is_fenced(
    empty_store: Path,
    identity: FeatureIdentity,
    features: Callable,
    write_claimed: Callable,
    run_python: Callable,
    done_before_waking: bool,
) -> None:
    process = run_python(_ASLEEP, empty_store, stdin=subprocess.PIPE)
    assert process.stdout.readline() == "claimed\n"
    process.send_signal(signal.SIGSTOP)
    with StoreWriter(empty_store, identity, lease_s=0.5) as writer:
        assert writer.pending(["a", "b"]) == []
        deadline = time.monotonic() + 30
        while writer.pending(["a", "b"]) != ["a", "b"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        claim = writer.claim(["a", "b"])
        if done_before_waking:
            write_claimed(writer, claim, attempt=1)
        process.send_signal(signal.SIGCONT)
        printed, _ = process.communicate("go on\n", timeout=60)
        assert "ended as abandoned" in printed
        if not done_before_waking:
            write_claimed(writer, claim, attempt=1)
        writer.compact()
    expected = np.stack([features(clip_id, identity, 1)[1] for clip_id in ("a", "b")])
    np.testing.assert_array_equal(open_store(empty_store).read_patches(["a", "b"]), expected)
    assert {found.code for found in verify_store(empty_store)} <= {"uncommitted"}
