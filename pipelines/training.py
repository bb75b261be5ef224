"""Stage two of a data set: every run of its preset, each skipped where it is complete."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cache_schema import Question, SentenceTable
from train.config import TrainConfig
from train.features import FeatureReader
from train.processes import ALONE, Processes
from train.progress import progress_bar
from train.run import TrainResult, train_run
from train.run_state import find_state
from train.text_tower import LoadTower


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What happened to one run of a preset."""

    name: str
    result: TrainResult | None
    """None where the run was complete before."""


def is_complete(run_dir: Path, config: TrainConfig) -> bool:
    """Whether a run of exactly this configuration has come to its end."""
    left = find_state(run_dir)
    return left is not None and left.config == config and left.progress.finished(config)


def train_all(
    runs: dict[str, TrainConfig],
    store: FeatureReader,
    questions: Sequence[Question],
    sentences: SentenceTable,
    folder: Path,
    console: Console,
    processes: Processes = ALONE,
    *,
    load_tower: LoadTower | None = None,
) -> list[Trained]:
    """Train the runs one after the other, going on with interrupted ones.

    Args:
        runs: Name -> configuration.
        store: The features.
        questions: The question table, all splits.
        sentences: Sentence features of the questions.
        folder: Each run gets a folder of its name in it.
        console: Where progress is shown.
        processes: Those that train every run together.
        load_tower: Reads the encoder's text tower, for runs that mask words or fine-tune it.

    Returns:
        One entry per run, in order.
    """
    done = []
    for name, config in runs.items():
        run_dir = folder / name
        if is_complete(run_dir, config):
            done.append(Trained(name=name, result=None))
            continue
        with progress_bar(name, console) as on_step:
            result = train_run(
                config,
                store,
                questions,
                sentences,
                run_dir,
                on_step=on_step,
                processes=processes,
                load_tower=load_tower,
            )
        done.append(Trained(name=name, result=result))
    return done
