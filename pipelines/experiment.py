"""One data set with its feature store, and the runs that are trained on it: what is where."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from rich.console import Console

from cache_schema import FeatureStore, open_store
from cache_schema.errors import StoreAbsent
from pipelines.datasets.annotations import Annotations
from pipelines.prepared import load
from pipelines.presets import Preset, own_preset, preset_path, read_preset
from pipelines.workspace import Workspace
from train.config import TrainConfig

PREDICTIONS = "predictions_test.parquet"
PREDICTIONS_AT_INIT = "predictions_test_at_init.parquet"


class Experiment:
    """One data set in its workspace, its feature store, and the preset that is trained on it."""

    def __init__(
        self,
        *,
        workspace: Workspace,
        store_path: str | os.PathLike[str],
        preset: str,
        overrides: Sequence[str],
        console: Console,
    ) -> None:
        self.workspace = workspace
        self.store_path = store_path
        self.preset = preset
        self.overrides = overrides
        self.console = console

    @cached_property
    def annotations(self) -> Annotations:
        """Clips, questions and evidence, read once from the data set's own files."""
        return load(self.workspace.dataset, self.workspace.data)

    @property
    def runs(self) -> dict[str, TrainConfig]:
        """The preset's runs."""
        return dict(self._preset.runs)

    @property
    def main_run(self) -> str:
        """The run that the report shows the frames of."""
        return self._preset.main_run

    @property
    def folder(self) -> Path:
        """Where the preset's runs, their summary and their report lie."""
        folder = self.workspace.runs / self._preset.folder
        return folder / Path(self.store_path).name if self._preset.per_store else folder

    @cached_property
    def _preset(self) -> Preset:
        return read_preset(
            preset_path(self.preset),
            list(self.overrides),
            self.workspace.seed,
            own=own_preset(self.workspace.dataset),
        )

    @property
    def beside(self) -> Path:
        """The local path that stands for the store: its sentences lie beside it."""
        return self.workspace.beside(self.store_path)

    def run_dir(self, name: str) -> Path:
        """Where one run lies."""
        return self.folder / name

    def say(self, text: str) -> None:
        """Print one line, unmarked: ids and paths may hold square brackets."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def store(self) -> FeatureStore:
        """The feature store, at its newest manifest.

        Raises:
            StoreAbsent: Nothing was extracted yet.
        """
        try:
            return open_store(self.store_path)
        except StoreAbsent as error:
            name = self.workspace.dataset.name
            raise StoreAbsent(f"{error} Run `make extract DATASET={name}` first.") from error


def is_newer(target: Path, sources: list[Path]) -> bool:
    """As make has it: the target exists and no source is missing or younger."""
    if not target.is_file() or not all(source.is_file() for source in sources):
        return False
    return all(target.stat().st_mtime_ns >= source.stat().st_mtime_ns for source in sources)
