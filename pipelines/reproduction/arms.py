"""Trains the runs of all arms, several processes side by side, each with one thread."""

import io
import multiprocessing
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from cache_schema.errors import InputError, StoreAbsent
from pipelines.experiment import Experiment
from pipelines.parent_watch import end_with_parent
from pipelines.reproduction.claims import Arm
from pipelines.reproduction.figures import Figures, measure, read_figures
from pipelines.sentences import load_sentences
from pipelines.task_questions import task_questions
from pipelines.text_tower import tower_loader
from pipelines.training import is_complete, train_all
from train.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmRun:
    """One run of an arm, as a process is told of it."""

    arm: Arm
    seed: int
    home: Path
    folder: Path
    """Where all runs lie, a folder each."""

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.arm.run_name(self.seed)

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder / self.name

    def config(self) -> TrainConfig:
        """The run's configuration: the main run of its data set, changed as the arm says."""
        experiment = self.experiment()
        return self.arm.config(experiment.runs[experiment.main_run], self.seed)

    def measured(self) -> Figures | None:
        """The run's figures; None while it, or a run of another configuration, is to be finished."""
        return read_figures(self.path) if is_complete(self.path, self.config()) else None

    def experiment(self) -> Experiment:
        """The arm's data set, whose main run the arm changes."""
        from pipelines.datasets.registry import find
        from pipelines.encoders import default_store
        from pipelines.presets import own_preset
        from pipelines.workspace import Workspace

        space = Workspace(home=self.home, dataset=find(self.arm.dataset), seed=1)
        return Experiment(
            workspace=space,
            store_path=default_store(space),
            preset=own_preset(space.dataset),
            overrides=[],
            console=Console(file=io.StringIO()),
        )


def run_arms(
    arms: Sequence[Arm],
    *,
    home: Path,
    folder: Path,
    seeds: int | None,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, list[Figures]]:
    """Train and measure every run that is not complete; go on with those that were interrupted.

    Args:
        arms: each after the arm that it starts from.
        home: holds data/, stores/ and runs/.
        folder: of the runs.
        seeds: how many of each arm; None is what each arm says.
        jobs: processes side by side.
        say: is told of every finished run, with the time left.

    Returns:
        The figures of every arm, in the order of its seeds.

    Raises:
        InputError: videos, features or sentences of an arm's data set are not there; nothing was trained.
    """
    runs = [
        ArmRun(arm=arm, seed=seed, home=home, folder=folder)
        for seed in range(1, max(arm.seeds for arm in arms) + 1)
        for arm in arms
        if seed <= (seeds or arm.seeds)
    ]
    waiting = [run for run in runs if run.measured() is None]
    _require_extracted(waiting)
    say(f"reproduce: {len(runs) - len(waiting)} of {len(runs)} runs are complete in {folder}")
    started, done = time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=end_with_parent) as pool:
        running: dict[Future[float], ArmRun] = {}
        try:
            while waiting or running:
                for run in _startable(waiting, running.values(), jobs - len(running)):
                    waiting.remove(run)
                    running[pool.submit(_train_and_measure, run)] = run
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    run, done = running.pop(future), done + 1
                    left = len(waiting) + len(running)
                    eta_s = (time.monotonic() - started) / done * left
                    took = f"{future.result():.0f} s"
                    say(f"  {run.name}: {took}; {left} runs left, about {_hours(eta_s)}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {
        arm.name: [
            found
            for run in runs
            if run.arm.name == arm.name and (found := run.measured()) is not None
        ]
        for arm in arms
    }


def _require_extracted(runs: Sequence[ArmRun]) -> None:
    """Refuse before hours of training what would end it in the middle."""
    for name, run in {run.arm.dataset: run for run in runs}.items():
        experiment = run.experiment()
        try:
            experiment.store()
            load_sentences(experiment.beside, experiment.annotations)
        except (InputError, StoreAbsent) as error:
            home = "" if run.home == Path() else f" --home {run.home}"
            raise InputError(
                f"The arm {run.arm.name!r} needs the data set {name!r} with its features: run `videodistill "
                f"extract {name}{home}` first (`make reproduce` does). {error}"
            ) from error


def _startable(waiting: Sequence[ArmRun], running: Collection[ArmRun], room: int) -> list[ArmRun]:
    """The next runs whose start is there: those that begin with another arm's weights wait for it."""
    unfinished = {run.name for run in (*waiting, *running)}
    return [
        run
        for run in waiting
        if not run.arm.after or f"{run.arm.after}-seed{run.seed}" not in unfinished
    ][:room]


def _train_and_measure(run: ArmRun) -> float:
    """Process body: one run to its end, on one thread; returns its seconds."""
    import torch

    torch.set_num_threads(1)
    started = time.monotonic()
    experiment = run.experiment()
    config = run.config()
    store, annotations = experiment.store(), experiment.annotations
    questions = task_questions(experiment.workspace.dataset, annotations, config.task)
    sentences = load_sentences(experiment.beside, annotations)
    if not is_complete(run.path, config):
        train_all(
            {run.name: config},
            store,
            questions,
            sentences,
            run.folder,
            experiment.console,
            load_tower=tower_loader(sentences, experiment.encoder),
        )
    measure(run.path, config.task, store, annotations, questions, sentences)
    return time.monotonic() - started


def _hours(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
