"""What else feeds a training loop with cached features: torch's DataLoader over common containers.

Each item is a clip, and a batch some clips stacked by the DataLoader's own collation. Workers are
processes that stay; they are asked for one pass before any is timed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import zarr
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.batch_files import BatchFiles
from cache_schema import open_store

Item = tuple[Tensor, Tensor]
"""CLS [N, D] and patches [N, P, D] of a clip."""


class NpyClips(Dataset[Item]):
    """A .npy file per clip, as `np.load` reads it."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, clip: int) -> Item:
        both = torch.from_numpy(np.load(self.files[clip]))
        return both[:, 0], both[:, 1:]


class ZarrClips(Dataset[Item]):
    """The store as any Zarr v3 group, read by zarr-python; opened in the worker."""

    def __init__(self, store: Path, names: list[str]) -> None:
        self.store = store
        rows = open_store(store).rows(names, ["segment", "slot"]).to_pylist()
        self.places = [(row["segment"], row["slot"]) for row in rows]
        self.group: zarr.Group | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, clip: int) -> Item:
        if self.group is None:
            self.group = zarr.open_group(self.store, mode="r")
        segment, slot = self.places[clip]
        arrays = self.group[f"seg-{segment:06d}"]
        return torch.from_numpy(arrays["cls"][slot]), torch.from_numpy(arrays["patch"][slot])


def passes(dataset: Dataset[Item], clips: int, workers: int) -> Iterator[int]:
    """Yields the number of clips of a whole shuffled pass, as often as it is asked."""
    loader = DataLoader(
        dataset,
        batch_size=clips,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context="forkserver" if workers else None,
    )
    while True:
        yield sum(len(cls) for cls, _ in loader)


def peers(files: BatchFiles, clips: int, zarr_clips: int) -> dict[str, Iterator[int]]:
    """The peers by name. zarr-python reads fewer clips: it takes ten times as long."""
    npy = NpyClips(files.npy)
    return {
        "DataLoader, .npy files, in the process": passes(npy, clips, 0),
        "DataLoader, .npy files, 2 workers": passes(npy, clips, 2),
        "DataLoader, zarr-python, 2 workers": passes(
            ZarrClips(files.store, files.names[:zarr_clips]), clips, 2
        ),
    }
