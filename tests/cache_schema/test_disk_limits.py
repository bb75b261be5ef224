"""Real limits of real file systems: a disk that is full, a file too large, a disk that only reads."""

import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from cache_schema import StoreAbsent, StoreWriter, create_store, open_store, verify_store

IDS = [f"c{number:03d}" for number in range(400)]


def _run(*words: object) -> str | None:
    """Runs a command; returns what it complained about."""
    program = shutil.which(str(words[0]))
    if program is None:
        return f"there is no {words[0]}"
    done = subprocess.run(
        [program, *map(str, words[1:])], capture_output=True, text=True, check=False
    )
    return done.stderr.strip() or "failed" if done.returncode else None


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    if problem := _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder):
        pytest.skip(f"file systems cannot be mounted here: {problem}")
    try:
        yield folder
    finally:
        assert _run("umount", folder) is None


def _fill(path: Path, identity: object, write_clips_of: Callable) -> None:
    with StoreWriter(path, identity) as writer:
        for start in range(0, len(IDS), 4):
            write_clips_of(writer, IDS[start : start + 4])
            writer.compact()


def test_a_full_disk_stops_the_job_and_spares_the_store(
    tmp_path: Path, identity: object, write_clips_of: Callable, features: Callable
) -> None:
    with _small_disk(tmp_path / "disk", "600k") as disk:
        create_store(disk / "store", identity, block_slots=4, segment_slots=8)
        with pytest.raises(OSError, match="No space left") as caught:
            _fill(disk / "store", identity, write_clips_of)
        assert caught.value.errno == errno.ENOSPC
        assert str(disk / "store") in str(caught.value)
        left = {finding.code for finding in verify_store(disk / "store")}
        assert left <= {"uncommitted", "claimed", "not-compacted", "unfinished"}
        store = open_store(disk / "store")
        done = len(store)
        assert 8 < done < len(IDS)
        expected = np.stack([features(clip_id, identity)[1] for clip_id in store.clip_ids])
        np.testing.assert_array_equal(store.read_patches(store.clip_ids), expected)
        assert _run("mount", "-o", "remount,size=16m", disk) is None
        with StoreWriter(disk / "store", identity) as writer:
            pending = writer.pending(IDS)
            assert len(IDS) - len(pending) >= done
            write_clips_of(writer, pending)
            writer.compact()
        assert open_store(disk / "store").clip_ids == IDS
        assert {f.code for f in verify_store(disk / "store")} <= {"uncommitted"}


_TOO_LARGE = """
import resource, sys, conftest, cache_schema
writer = cache_schema.StoreWriter(sys.argv[1], conftest.make_identity(), job="limited")
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
try:
    conftest.write_clips_of(writer, ["x", "y"])
except OSError as error:
    print(error.errno)
"""


def test_a_limit_of_file_sizes_spares_the_store(filled, run_python: Callable) -> None:
    process = run_python(_TOO_LARGE, filled.path)
    printed, _ = process.communicate(timeout=60)
    assert printed.split() == [str(errno.EFBIG)]
    assert {f.code for f in verify_store(filled.path)} <= {"claimed", "not-compacted"}
    np.testing.assert_array_equal(
        open_store(filled.path).read_patches(filled.ok), filled.patch(filled.ok)
    )
    with StoreWriter(filled.path, filled.identity) as writer:
        assert writer.pending(["x", "y"]) == ["x", "y"]


def test_a_disk_that_only_reads_is_enough_for_reading(
    filled, tmp_path: Path, write_claimed: Callable
) -> None:
    with _small_disk(tmp_path / "disk", "4m") as disk:
        shutil.copytree(filled.path, disk / "store")
        assert _run("mount", "-o", "remount,ro", disk) is None
        store = open_store(disk / "store")
        np.testing.assert_array_equal(store.read_patches(filled.ok), filled.patch(filled.ok))
        np.testing.assert_array_equal(store.read_cls(filled.ok), filled.cls(filled.ok))
        assert verify_store(disk / "store") == []
        with StoreWriter(disk / "store", filled.identity) as writer:
            assert writer.pending(["c0", "x"]) == ["x"]
            # The first thing that a job does for a clip: before it decodes or encodes any.
            with pytest.raises(OSError, match="Read-only file system") as caught:
                writer.claim(["x"])
        assert caught.value.errno == errno.EROFS
        with pytest.raises(OSError, match="Read-only file system"):
            create_store(disk / "new", filled.identity)
        with pytest.raises(StoreAbsent):
            open_store(disk / "new")
        assert verify_store(disk / "store") == []
