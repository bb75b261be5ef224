"""Train the needle as one of several processes: `python -m tests.train.train_together PLAN`.

A plan is a JSON list of runs: their folder, the task, options of `TrainConfig`, and at which step, if at
any, which process is interrupted, fails or dies. Every process writes what it was asked into the folder.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from cache_schema.errors import InputError
from tests.train.conftest import make_needle
from tests.train.needle_tasks import asked_as
from train import run
from train.config import ModelConfig, PretrainingConfig, TrainConfig
from train.objectives.by_task import build_objective
from train.processes import ALONE, Processes, joined_processes

CLIPS = {"train": 11, "val": 4, "test": 1}


class Interrupted(Exception):  # noqa: N818
    pass


def config_of(**options) -> TrainConfig:
    """A small model and a short run: 11 clips of 4 questions are 22 groups of 3 or 1."""
    small = ModelConfig(
        selected=4, sampling_blocks=1, refinement_blocks=1, heads=4, mlp_ratio=2, head_dropout=0.2
    )
    config = TrainConfig(
        model=small, steps=8, warmup_steps=2, lr=2e-3, clips_per_batch=6, questions_per_clip=3,
        accumulate=2, validate_every=4, pretraining=PretrainingConfig(masked_words=False),
    )  # fmt: skip
    return TrainConfig.from_dict(config.to_dict() | options)


def train(run_dir: Path, options: dict, cut: dict | None = None, processes: Processes = ALONE):
    """One run of a plan.

    Args:
        run_dir: its folder.
        options: of `config_of`.
        cut: `step`, `rank` (all where None) and `how`: "interrupt", "fail" or "kill".
        processes: those that take part.
    """
    torch.set_num_threads(1)  # sums of several threads come in another order
    config = config_of(**options)
    needle = asked_as(config.task, make_needle(CLIPS))
    asked: list[list[str]] = []

    def recording(*parts):
        objective = build_objective(*parts)

        def record(model, batch, **noise):
            asked.append(list(batch.question_ids))
            return objective(model, batch, **noise)

        return record

    def on_step(report):
        if cut and report.step == cut["step"] and cut.get("rank") in {None, processes.rank}:
            _cut(cut["how"], processes.rank)

    run.build_objective = recording
    try:
        run.train_run(
            config, needle.store, needle.questions, needle.sentences, run_dir,
            on_step=on_step, processes=processes,
        )  # fmt: skip
    except Interrupted:
        pass
    finally:
        run.build_objective = build_objective
        if run_dir.exists():  # a run that is refused leaves no folder
            name = f"asked-{processes.rank}-{'cut' if cut else 'end'}.json"
            (run_dir / name).write_text(json.dumps(asked))


def _cut(how: str, rank: int) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "fail":
        raise InputError(f"process {rank} fails on purpose")
    raise Interrupted


if __name__ == "__main__":
    with joined_processes() as together:
        for entry in json.loads(Path(sys.argv[1]).read_text()):
            train(Path(entry["run_dir"]), entry["options"], entry.get("cut"), together)
