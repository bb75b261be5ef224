"""The figures of one trained run on its test questions, kept beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from cache_schema import FeatureStore, SentenceTable
from cache_schema.errors import InputError
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.question_table import QuestionTable
from pipelines.datasets.annotations import Annotations
from pipelines.scores.retrieval import rank_numbers, ranks
from pipelines.summary import tag_of
from train.config import Task
from train.evaluation import evaluate_run
from train.metrics import accuracy, mean_frame_hit
from train.retrieval import retrieve_run

FIGURES: Final = "figures.json"
HIT: Final = "hit"

Figures = Mapping[str, float]
"""Figure -> value: of questions `accuracy`, `core` and `hard`, and `hit` where frames are selected; of
captions `recall_at_1` and `recall_at_10`."""


def measure(
    run_dir: Path,
    task: Task,
    store: FeatureStore,
    annotations: Annotations,
    questions: QuestionTable,
    sentences: SentenceTable,
) -> None:
    """Ask a run's best weights the test questions, or the clips of the captions; write its figures."""
    if task == "pretrain":
        found = retrieve_run(run_dir, store, questions, sentences)
        recall = rank_numbers(ranks(found.scores, np.array(found.right)))
        figures = {"recall_at_1": recall["R@1"], "recall_at_10": recall["R@10"]}
    else:
        predictions = evaluate_run(run_dir, store, questions, sentences)
        level = {
            question.question_id: tag_of(question, "level") or "core"
            for question in questions.in_split("test")
        }
        figures = {"accuracy": accuracy(predictions)}
        for name in dict.fromkeys(level.values()):
            figures[name] = accuracy([p for p in predictions if level[p.question_id] == name])
        core = [p for p in predictions if level[p.question_id] == "core"]
        if any(p.frame_time for p in core):
            figures[HIT] = mean_frame_hit(core, annotations.evidence)
    replace_file(run_dir / FIGURES, (json.dumps(figures, indent=2) + "\n").encode())


def read_figures(run_dir: Path) -> Figures | None:
    """The figures of a run; None where it was not measured yet.

    Raises:
        InputError: the file is not what `measure` writes.
    """
    path = run_dir / FIGURES
    if not path.is_file():
        return None
    try:
        return {str(name): float(value) for name, value in json.loads(path.read_bytes()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} holds no figures: {error}. Remove it, and run again.") from error
