"""Where a data set's videos, feature stores and runs lie on disk."""

import os
from dataclasses import dataclass
from pathlib import Path

from cache_schema.errors import InputError
from cache_schema.storage.storage import is_url
from pipelines.datasets.dataset import Dataset


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
    data_root: Path | None = None
    """Folder of the videos and annotation files, where they are not under home."""

    @property
    def data(self) -> Path:
        """Videos and annotation files."""
        if self.data_root is not None:
            return self.data_root
        return self.home / "data" / self._with_seed(self.dataset.folder)

    @property
    def stores(self) -> Path:
        """Feature stores, one per identity, and sentence features."""
        return self.home / "stores" / self._with_seed(self.dataset.folder)

    @property
    def runs(self) -> Path:
        """One folder per trained run, the summary and the report."""
        return self.home / "runs" / self._with_seed(self.dataset.name)

    def beside(self, store: str | os.PathLike[str]) -> Path:
        """The local path that stands for a store: what belongs to it lies beside it.

        For a store at a URL that is a name among the data set's stores.
        """
        return self.stores / Path(store).name if is_url(store) else Path(store)

    def only_store(self) -> Path:
        """The store of a data set that has one.

        Raises:
            InputError: There is none, or there are several to choose from.
        """
        there = sorted(p.parent for p in self.stores.glob("*/zarr.json"))
        if len(there) == 1:
            return there[0]
        name = self.dataset.name
        if not there:
            raise InputError(
                f"There is no feature store in {self.stores}: `make extract DATASET={name}`."
            )
        listed = ", ".join(p.name for p in there)
        raise InputError(f"{self.stores} holds several stores ({listed}); name one with --store.")

    def _with_seed(self, name: str) -> str:
        return name if self.seed == 1 else f"{name}-seed{self.seed}"
