"""Where a data set's videos, feature stores and runs lie on disk."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.datasets.registry import Dataset


@dataclass(frozen=True, kw_only=True, slots=True)
class Workspace:
    """The folders of one data set and seed under one home.

    Seed 1 is the plain name (`runs/demo`), others say theirs (`runs/demo-seed2`). Data sets that
    share videos share their data and store folders, never their runs.
    """

    home: Path
    """Usually the project's folder."""
    dataset: Dataset
    seed: int

    @property
    def data(self) -> Path:
        """Videos and annotation files."""
        return self.home / "data" / self._with_seed(self.dataset.folder)

    @property
    def stores(self) -> Path:
        """Feature stores, one per identity, and sentence features."""
        return self.home / "stores" / self._with_seed(self.dataset.folder)

    @property
    def runs(self) -> Path:
        """One folder per trained run, the summary and the report."""
        return self.home / "runs" / self._with_seed(self.dataset.name)

    def store(self, identity_name: str) -> Path:
        """The store of one identity."""
        return self.stores / identity_name

    def _with_seed(self, name: str) -> str:
        return name if self.seed == 1 else f"{name}-seed{self.seed}"
