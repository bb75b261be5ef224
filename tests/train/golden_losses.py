"""Golden losses: what the first 20 steps of every model cost; `python -m tests.train.golden_losses`.

The command writes `golden_losses.json` anew, and says by how much what was there before changed. Do so
only where a change of numbers is meant, and say in the commit why.
"""

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from tests.train.conftest import make_needle
from tests.train.needle_tasks import asked_as
from tests.train.word_tower import fresh, with_tower
from train.config import ModelConfig, PretrainingConfig, TrainConfig
from train.curves import read_curves
from train.methods import MODELS
from train.run import train_run
from train.text_tower import masks_words, reads_texts

GOLDEN: Final = Path(__file__).with_name("golden_losses.json")
COMMAND: Final = "python -m tests.train.golden_losses"
STEPS: Final = 20

DEFAULT: Final = TrainConfig(
    model=ModelConfig(),
    steps=STEPS,
    warmup_steps=5,
    clips_per_batch=4,
    questions_per_clip=2,
    validate_every=STEPS,
)
"""The default model, with a batch and a schedule that fit the needle."""

RUNS: Final = {
    "default": DEFAULT,
    "choose": replace(DEFAULT, task="choose", questions_per_clip=1),
    "pretrain": replace(
        DEFAULT,
        task="pretrain",
        clips_per_batch=8,
        questions_per_clip=1,
        pretraining=PretrainingConfig(masked_words=False),
    ),
    "pretrain with words": replace(
        DEFAULT,
        task="pretrain",
        clips_per_batch=8,
        questions_per_clip=1,
        model=ModelConfig(text="finetune"),
    ),
    **{
        method: replace(DEFAULT, method=method, clips_per_batch=8)
        for method in MODELS
        if method != "videodistill"
    },
}


def losses(name: str) -> list[float]:
    """Train one of `RUNS` on the CPU, and return what every step cost."""
    config = RUNS[name]
    needle = asked_as(config.task, make_needle({"train": 16, "val": 2, "test": 1}))
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        sentences, load_tower = needle.sentences, None
        if masks_words(config) or reads_texts(config):
            sentences, tower = with_tower(sentences, config)
            load_tower = fresh(tower)
        train_run(config, needle.store, needle.questions, sentences, run_dir, load_tower=load_tower)
        return [line["loss"] for line in read_curves(run_dir) if line["kind"] == "train"]


def regenerate() -> None:
    """Write all losses, and tell the largest relative change of each run."""
    torch.set_num_threads(1)
    before = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    found = {name: losses(name) for name in RUNS}
    lines = (f'  "{name}": {json.dumps(values)}' for name, values in found.items())
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    for name, values in found.items():
        changes = [abs(a / b - 1) for a, b in zip(values, before.get(name, []), strict=False)]
        said = f"changed by at most {max(changes):.1e}" if changes else "is new"
        sys.stdout.write(f"{name}: {said}\n")


if __name__ == "__main__":
    regenerate()
