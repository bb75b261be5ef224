"""Two processes train what one trains: weights, losses, questions, and after an interruption too."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from cache_schema.errors import InputError
from tests.train.conftest import make_needle
from tests.train.train_together import CLIPS, config_of, train
from train.checkpoint import read_checkpoint
from train.curves import read_curves
from train.loop import DIVERGED
from train.processes import Processes
from train.run_state import LAST

ROOT = Path(__file__).parents[2]
SCRIPT = "tests.train.train_together"
PRETRAIN = {
    "task": "pretrain",
    "pretraining": {"masked_words": False},
    "questions_per_clip": 1,
    "accumulate": 4,
    "clips_per_batch": 12,
}
INVISIBLE = ("qkv.bias", "w_s.bias", "sampler.blocks.0.mlp.fc2.bias")
"""Biases, or parts of them, that a softmax over frames or tokens does not see: what reaches them is
rounding, which AdamW scales up to whole steps."""
CUT = {"step": 6, "how": "interrupt"}


def entry(run_dir: Path, options: dict | None = None, cut: dict | None = None) -> dict:
    return {"run_dir": str(run_dir), "options": options or {}, "cut": cut}


def write_plan(folder: Path, *entries: dict) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(entries))
    return path


def two_processes(plan: Path) -> None:
    """Run a plan in two processes, with the variables that torchrun sets but without its start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {
        "TORCHELASTIC_RUN_ID": "a test", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    started = [
        subprocess.Popen(
            [sys.executable, "-m", SCRIPT, plan],
            cwd=ROOT,
            env=os.environ | together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=200) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()


def torchrun(plan: Path) -> subprocess.CompletedProcess[str]:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [sys.executable, *command, "-m", SCRIPT, plan],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def losses(run_dir: Path) -> list[dict]:
    """The curves without what the clock decides."""
    return [
        {name: value for name, value in line.items() if not name.endswith("_s")}
        for line in read_curves(run_dir)
    ]


def assert_same_run(run_dir: Path, other: Path) -> None:
    """Bit for bit."""
    ours, theirs = read_checkpoint(run_dir / LAST), read_checkpoint(other / LAST)
    assert ours.progress == theirs.progress
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)
    assert losses(run_dir) == losses(other)


def asked_by(run_dir: Path, rank: int, parts_of_cut: int = 0) -> list[list[str]]:
    """The questions of every part that a process computed and that counted."""
    asked: list[list[str]] = []
    for name, count in (("cut", parts_of_cut), ("end", None)):
        path = run_dir / f"asked-{rank}-{name}.json"
        asked += json.loads(path.read_text())[:count] if path.exists() else []
    return asked


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of two processes, one that is interrupted and goes on, and one of a single process."""
    folder = tmp_path_factory.mktemp("together")
    two_processes(
        write_plan(
            folder, entry(folder / "two"), entry(folder / "cut", cut=CUT), entry(folder / "cut")
        )
    )
    train(folder / "one", {})
    return folder


def test_two_processes_train_what_one_trains(trained):
    """Dropout and Gumbel noise are on; of two parts, the order of additions is the same as well."""
    assert_same_run(trained / "two", trained / "one")


def test_an_interrupted_run_of_two_processes_goes_on_bit_for_bit(trained):
    assert_same_run(trained / "cut", trained / "two")


@pytest.mark.parametrize("name", ["two", "cut"])
def test_an_epoch_asks_every_question_once(trained, name):
    # The checkpoint is at step 4: what steps 5 and 6 asked before the cut is asked again.
    shares = [asked_by(trained / name, rank, parts_of_cut=4) for rank in range(2)]
    needle = make_needle(CLIPS)
    everything = Counter(q.question_id for q in needle.questions if q.split == "train")
    parts = [part for step in zip(*shares, strict=True) for part in step]
    parts_per_epoch = -(-2 * CLIPS["train"] // config_of().clips_per_part)
    assert len(parts) == 16
    for start in range(0, len(parts) - parts_per_epoch + 1, parts_per_epoch):
        epoch = parts[start : start + parts_per_epoch]
        assert Counter(question for part in epoch for question in part) == everything
    assert all(set(mine).isdisjoint(other) for mine, other in zip(*shares, strict=True))


def test_parts_that_cannot_be_dealt_out_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"3 processes .* Add --set accumulate=3 .* = 6"):
        train(tmp_path / "run", {}, processes=Processes(rank=1, count=3))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_four_parts_differ_in_the_order_of_additions_alone(tmp_path):
    two_processes(write_plan(tmp_path, entry(tmp_path / "two", PRETRAIN)))
    train(tmp_path / "one", PRETRAIN)
    ours, theirs = (
        read_checkpoint(tmp_path / name / LAST).part("model") for name in ("two", "one")
    )
    for name in ours.keys() - {name for name in ours if name.endswith(INVISIBLE)}:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)
    for line, expected in zip(losses(tmp_path / "two"), losses(tmp_path / "one"), strict=True):
        assert line.keys() == expected.keys()
        if line["kind"] == "train":
            assert {"loss_matching", "loss_contrastive"} <= line.keys()
        for name in line.keys() - {"kind"}:
            assert line[name] == pytest.approx(expected[name], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_ends_all_and_the_run_goes_on(trained, tmp_path, how, rank):
    """Under torchrun; killed as by kill -9, in the middle of an epoch and two steps after a checkpoint."""
    run_dir = tmp_path / "run"
    cut = {"step": 6, "rank": rank, "how": how}
    ended = torchrun(write_plan(tmp_path, entry(run_dir, cut=cut)))
    assert ended.returncode == 1
    if how == "fail":
        assert f"InputError: process {rank} fails on purpose" in ended.stderr
    assert read_checkpoint(run_dir / LAST).progress.step == 4
    again = torchrun(write_plan(tmp_path, entry(run_dir)))
    assert again.returncode == 0, again.stderr
    assert_same_run(run_dir, trained / "two")


@pytest.mark.slow
def test_a_killed_run_of_two_is_finished_by_one(trained, tmp_path):
    run_dir = tmp_path / "run"
    cut = {"step": 5, "rank": 1, "how": "kill"}
    assert torchrun(write_plan(tmp_path, entry(run_dir, cut=cut))).returncode == 1
    train(run_dir, {})
    assert_same_run(run_dir, trained / "two")


@pytest.mark.slow
def test_a_killed_run_of_one_goes_on_bit_for_bit(trained, tmp_path):
    plan = write_plan(tmp_path, entry(tmp_path / "run", cut={"step": 7, "how": "kill"}))
    ended = subprocess.run([sys.executable, "-m", SCRIPT, plan], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    train(tmp_path / "run", {})
    assert_same_run(tmp_path / "run", trained / "one")


@pytest.mark.slow
def test_a_loss_that_is_no_number_names_the_questions_of_all_processes(tmp_path):
    run_dir = tmp_path / "run"
    ended = torchrun(write_plan(tmp_path, entry(run_dir, {"lr": 1e30, "clip_norm": 1e30})))
    assert ended.returncode == 1
    assert "TrainingDiverged" in ended.stderr
    fatal = json.loads((run_dir / DIVERGED).read_text())
    step = fatal["step"] - 1
    asked = [asked_by(run_dir, rank)[step] for rank in range(2)]
    assert fatal["question_ids"] == [question for part in asked for question in part]
