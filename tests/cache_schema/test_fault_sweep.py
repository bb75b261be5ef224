"""A fault at the n-th step on disk, for every n: SQLite's way to try all of them."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., subprocess.Popen[str]]


def _swept(run_python: Start, *arguments: object) -> list[dict]:
    script = "import sys, fault_sweep; fault_sweep.main(*sys.argv[1:])"
    process = run_python(script, *arguments)
    printed, _ = process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in printed.splitlines()]


LONG = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("kind", "clips"),
    [
        ("ENOSPC", 2),
        ("exit", 1),
        ("power", 1),
        pytest.param("EIO", 3, marks=LONG),
        # Three segments, two versions of the manifest.
        pytest.param("ENOSPC", 9, marks=LONG),
        pytest.param("EIO", 9, marks=LONG),
        pytest.param("exit", 9, marks=LONG),
        pytest.param("power", 9, marks=LONG),
    ],
)
def test_no_fault_at_any_step_harms_the_store(
    kind: str, clips: int, run_python: Start, tmp_path: Path
) -> None:
    runs = _swept(run_python, kind, tmp_path / "sweep", clips)
    assert [run for run in runs if run["problems"]] == []
    # Otherwise the faults would not have met the store.
    assert len(runs) > 60
    assert runs[-1]["ended"] == "untouched"
    ended = Counter(run["ended"].partition(":")[0] for run in runs)
    sys.stdout.write(f"{kind}: {len(runs) - 1} steps, ended {dict(ended)}\n")
    if kind in {"exit", "power"}:
        assert ended == {"killed": len(runs) - 1, "untouched": 1}
        return
    kinds = Counter(run["step"].partition(" ")[0] for run in runs)
    assert min(kinds[name] for name in ("open", "write", "fsync", "link", "rename")) > 0
    if kind == "ENOSPC":
        told = [run["ended"] for run in runs if run["ended"] != "untouched"]
        assert all("No space left on device" in line for line in told)


def test_a_store_that_did_not_force_names_to_disk_would_be_found_out(
    run_python: Start, tmp_path: Path
) -> None:
    runs = _swept(run_python, "power", tmp_path / "sweep", 1, "careless")
    assert any("were committed" in line for run in runs for line in run["problems"])
