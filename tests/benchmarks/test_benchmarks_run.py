"""The benchmarks still run, and compare readers that read the same; no figure is looked at."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import manifest_scale, store_read
from benchmarks.clip_readers import ClipSize, contenders, write_files

SMALL = ClipSize(frames=20, patches=3, dim=8)


def test_readers_take_turns_and_ratios_are_told(tmp_path: Path) -> None:
    # Without tensorstore, whose threads would meet the forks of other tests.
    files = write_files(tmp_path, 9, SMALL)
    readers = [r for r in contenders(files, tensors=False) if not r.name.startswith("zarr")]
    times = store_read.measure(readers, clips=9, rounds=2)
    assert {found.shape for found in times.values()} == {(2, 9)}
    lines = store_read.table(readers, [times, times])
    assert len(lines) == len(readers) + 2
    assert lines[2].startswith("| memmap, whole clip |")
    assert "| 1.00 | 1.00 | 1.00 |" in lines[2]
    assert sum("<= " in line for line in lines) == 3


def test_a_contender_that_reads_something_else_is_found(tmp_path: Path) -> None:
    files = write_files(tmp_path, 2, SMALL)
    np.save(files.npy[1], np.zeros(SMALL.shape, np.float16))
    with pytest.raises(AssertionError, match=r"\.npy file"):
        contenders(files, tensors=False)


def test_a_small_manifest_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manifest_scale, "PART_ROWS", 3000)
    monkeypatch.setattr(manifest_scale, "LISTED", 600)
    monkeypatch.setattr(manifest_scale, "LOOKED_UP", 40)
    monkeypatch.setattr(manifest_scale, "ROW_GROUP", 1024)
    # In this process, so that the changes above are seen.
    monkeypatch.setattr(
        manifest_scale,
        "in_fresh_process",
        lambda name, path, clips: manifest_scale.MEASURES[name](path, clips),
    )
    command = ["manifest_scale", "--clips", "3000", "6400", "--folder", str(tmp_path), "--no-write"]
    monkeypatch.setattr(sys, "argv", command)
    assert manifest_scale.main() == 0
    told = capsys.readouterr().out
    assert "| what | 3,000 clips | 6,400 clips | aim |" in told
    assert all(label in told for label, *_ in manifest_scale.LINES)
