"""Does training converge whatever the seed? Several seeds on the same demo videos, as a result file."""

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipelines.experiment import Experiment
from pipelines.presets import MAIN_RUN
from pipelines.sentences import load_sentences
from pipelines.summary import provenance, tag_of
from pipelines.training import train_all
from train.evaluation import evaluate_run
from train.metrics import accuracy, mean_frame_hit

UNIFORM = "uniform"
LEAST_GAIN = 0.40
"""A seed converged if its core accuracy is this far above uniform sampling's ..."""
LEAST_HIT = 0.70
"""... and this share of its selected frames lies in the evidence."""


def measure_seeds(experiment: Experiment, seeds: int, results: Path) -> str:
    """Train the main run with seeds 1 to `seeds` and uniform sampling once; write the result file.

    Seed 1 and uniform sampling are the demo's own runs; those that are complete are not repeated.

    Args:
        experiment: The demo, extracted.
        seeds: How many training seeds; the videos stay the same.
        results: Folder of the result file.

    Returns:
        One line: how many seeds converged, and where it is written.
    """
    store, annotations = experiment.store(), experiment.annotations
    sentences = load_sentences(experiment.beside, annotations)
    core = [q for q in annotations.questions if tag_of(q, "level") == "core"]
    main, uniform = experiment.runs[MAIN_RUN], experiment.runs[UNIFORM]
    runs = {UNIFORM: uniform, MAIN_RUN: main} | {
        f"{MAIN_RUN}-seed{seed}": replace(main, seed=seed) for seed in range(2, seeds + 1)
    }
    folder = experiment.workspace.runs
    train_all(runs, store, annotations.questions, sentences, folder, experiment.console)
    numbers = dict[str, tuple[float, float]]()
    for name in runs:
        found = evaluate_run(folder / name, store, core, sentences)
        numbers[name] = accuracy(found), mean_frame_hit(found, annotations.evidence)
    least = numbers[UNIFORM][0] + LEAST_GAIN
    converged = [
        n for n, (a, hit) in numbers.items() if n != UNIFORM and a >= least and hit >= LEAST_HIT
    ]
    line = f"{len(converged)} of {seeds} seeds converged"
    date = datetime.now(UTC).date().isoformat()
    path = results / f"demo-seeds_{platform.machine()}_{date}.md"
    results.mkdir(parents=True, exist_ok=True)
    about = provenance(store.identity, experiment.workspace.seed, "make demo-seeds")
    path.write_text(_page(line, numbers, converged, json.dumps(about, indent=2)), encoding="utf-8")
    return f"{line}; written to {path}"


def _page(
    line: str, numbers: Mapping[str, tuple[float, float]], converged: list[str], about: str
) -> str:
    rows = "\n".join(
        f"| {name} | {100 * a:.1f} | {hit:.2f} | {'yes' if name in converged else '-'} |"
        for name, (a, hit) in numbers.items()
    )
    return (
        f"# Demo: {line}\n\n"
        f"Core questions of the test split, best checkpoint by validation accuracy. Converged: at least\n"
        f"{100 * LEAST_GAIN:.0f} points above uniform sampling and a frame hit of at least {LEAST_HIT}.\n"
        "Seeds differ in weights, order and noise; the videos are the same. Complete runs were reused.\n\n"
        f"| run | accuracy (%) | frame hit | converged |\n|---|--:|--:|---|\n{rows}\n\n"
        f"```json\n{about}\n```\n"
    )
