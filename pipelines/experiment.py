"""One data set with its feature store, and the runs that are trained on it: what is where."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Final

from rich.console import Console

from cache_schema import FeatureStore
from cache_schema.errors import InputError, StoreAbsent
from cache_schema.tables.question_table import Split
from pipelines.datasets.annotations import Annotations
from pipelines.encoders import EncoderFiles
from pipelines.prepared import load
from pipelines.presets import Preset, changed, own_preset, preset_path, read_preset
from pipelines.store_access import open_for_training
from pipelines.task_questions import require_training
from pipelines.workspace import Workspace
from train.checkpoint import peek_checkpoint
from train.config import Task, TrainConfig
from train.loop import BEST

_RUNS: Final = "runs"


def predictions_file(split: Split) -> str:
    """The name of a split's predictions in a run's folder."""
    return f"predictions_{split}.parquet"


PREDICTIONS: Final = predictions_file("test")


class Experiment:
    """One data set in its workspace, its feature store, and the runs that it is about.

    These are a preset's runs; or, with `start_from`, the preset's main run alone, started from another
    run's weights; or, with `run`, one that was trained elsewhere and is only asked here. Each kind has
    folders of its own.

    Attributes:
        parts: the data sets that are trained on together; this one is the first, and mostly the only one.
    """

    def __init__(
        self,
        *,
        workspace: Workspace,
        store_path: str | os.PathLike[str],
        preset: str,
        overrides: Sequence[str],
        console: Console,
        start_from: Path | None = None,
        run: Path | None = None,
        encoder: EncoderFiles | None = None,
        joined: Sequence["Experiment"] = (),
    ) -> None:
        self.workspace = workspace
        self.store_path = store_path
        self.preset = preset
        self.overrides = overrides
        self.console = console
        self.start_from = start_from
        self.run = run
        self.encoder = encoder or EncoderFiles()
        self.parts: tuple[Experiment, ...] = (self, *joined)

    @cached_property
    def annotations(self) -> Annotations:
        """Clips, questions, captions and evidence, read once from the data set's own files."""
        return load(self.workspace.dataset, self.workspace.data)

    @cached_property
    def runs(self) -> dict[str, TrainConfig]:
        """The runs by name.

        Raises:
            InputError: the preset, or the run that was trained elsewhere, is not there.
        """
        if self.run is not None:
            trained = peek_checkpoint(self.run / BEST).config
            return {self.main_run: changed(trained, list(self.overrides))}
        if self.start_from is None:
            return dict(self._preset.runs)
        # As seen from the run's folder, so that both may be moved together.
        origin = os.path.relpath(self.start_from.resolve(), self.run_dir(self.main_run).resolve())
        return {self.main_run: replace(self._preset.runs[self.main_run], start_from=origin)}

    @property
    def main_run(self) -> str:
        """The run that the report shows the frames of."""
        return self._preset.main_run if self.run is None else self.run.resolve().name

    @property
    def task(self) -> Task:
        """What the runs are asked on this data set.

        A run of elsewhere that has a matching head answers choices where there are any, and finds clips
        by their captions where there are none.

        Raises:
            InputError: the preset mixes tasks, which no summary could set side by side.
        """
        tasks = {config.task for config in self.runs.values()}
        if len(tasks) > 1:
            raise InputError(
                f"The runs of {self.preset!r} have the tasks {', '.join(sorted(tasks))}; put each task into "
                "a preset of its own."
            )
        (task,) = tasks
        if self.run is None or task == "answer":
            return task
        return "choose" if self.annotations.questions else "pretrain"

    @property
    def folder(self) -> Path:
        """Where the summary, the report and what the runs answered lie."""
        if self.run is not None:
            return self.workspace.runs / f"by-{_full_name(self.run)}"
        runs = self.workspace.runs
        together = "+".join(part.workspace.runs.name for part in self.parts)
        folder = runs.with_name(together) / self._preset.folder
        if self.start_from is not None:
            folder /= f"from-{_full_name(self.start_from)}"
        return folder / Path(self.store_path).name if self._preset.per_store else folder

    @cached_property
    def _preset(self) -> Preset:
        try:
            path = preset_path(self.preset)
        except InputError:
            # A data set that is a test alone has none, and there is more to say about it.
            require_training(self.workspace.dataset, self.annotations)
            raise
        return read_preset(
            path,
            list(self.overrides),
            self.workspace.seed,
            own=own_preset(self.workspace.dataset),
        )

    def run_dir(self, name: str) -> Path:
        """Where a run's checkpoints lie."""
        return self.output_dir(name) if self.run is None else self.run

    def output_dir(self, name: str) -> Path:
        """Where a run's answers lie."""
        return self.folder / name

    @property
    def beside(self) -> Path:
        """The local path that stands for the store: its sentences lie beside it."""
        return self.workspace.beside(self.store_path)

    def command(self, step: str) -> str:
        """The command line of another step on the same runs: all that says which these are."""
        space = self.workspace
        per_store = self.run is None and self._preset.per_store
        chosen: dict[str, object] = {
            "--seed": None if space.seed == 1 else space.seed,
            "--home": None if space.home == Path() else space.home,
            "--data-root": space.data_root,
            "--store": self.store_path if per_store else None,
            "--preset": None if self.preset == own_preset(space.dataset) else self.preset,
            "--start-from": self.start_from,
            "--run": self.run,
        }
        given = [(option, str(value)) for option, value in chosen.items() if value is not None]
        given += [("--set", change) for change in self.overrides]
        words = ["videodistill", step, space.dataset.name]
        return shlex.join([*words, *(word for pair in given for word in pair)])

    def say(self, text: str) -> None:
        """Print one line, unmarked: ids and paths may hold square brackets."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def store(self) -> FeatureStore:
        """The feature store, at its newest manifest.

        Raises:
            StoreAbsent: Nothing was extracted yet.
        """
        try:
            return open_for_training(self.store_path)
        except StoreAbsent as error:
            name = self.workspace.dataset.name
            raise StoreAbsent(f"{error} Run `make extract DATASET={name}` first.") from error


def _full_name(run: Path) -> str:
    """A run's place below `runs/` in one word: `webvid-videodistill`."""
    parts = run.resolve().parts
    below = len(parts) - 1 - parts[::-1].index(_RUNS) if _RUNS in parts else len(parts) - 3
    return "-".join(parts[below + 1 :])


def is_newer(target: Path, sources: list[Path]) -> bool:
    """As make has it: the target exists and no source is missing or younger."""
    if not target.is_file() or not all(source.is_file() for source in sources):
        return False
    return all(target.stat().st_mtime_ns >= source.stat().st_mtime_ns for source in sources)
