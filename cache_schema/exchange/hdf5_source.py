"""Features in HDF5 files, in the layouts of MIST, HCRN and this project's own export."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

import h5py
import numpy as np
import numpy.typing as npt

from cache_schema.clip import clip_id_rule
from cache_schema.errors import InputError, SchemaError
from cache_schema.exchange.feature_source import (
    Floats,
    SourceClip,
    SourceSizes,
    UnusableClip,
    require_floats,
)
from cache_schema.identity import FeatureIdentity
from cache_schema.outcome import one_line

RowsLayout = Literal["rows", "mist", "hcrn"]
"""One dataset for all clips, and ``ids``: ``rows`` is this project's ``cls_features`` [V, N, D] and
``patch_features`` [V, N, P, D]; ``mist`` is ``features`` [V, N, 1 + P, D]; ``hcrn`` is one dataset
``*_features``, [V, N, D] or, by segments, [V, S, N / S, D]."""

_IDS: Final = "ids"
_TIMES: Final = "frame_time"


class _File:
    """An HDF5 file from strangers: nothing in it may lead to another file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # "best-effort": a cluster's file system may not be able to lock.
            self.file = h5py.File(path, "r", locking="best-effort")
        except FileNotFoundError:
            raise InputError(f"There is no file {path}.") from None
        except OSError as error:
            raise InputError(f"{path} cannot be read as HDF5: {one_line(str(error))}") from error

    def dataset(self, name: str) -> h5py.Dataset:
        """Returns a dataset whose values are in this file.

        Raises:
            InputError: it is missing, a group, or somewhere else.
        """
        link = self.file.get(name, getlink=True)
        if link is None:
            there = ", ".join(one_line(str(key)) for key in list(self.file)[:20])
            raise InputError(f"{self.path} has no dataset {name!r}; it has: {there or 'nothing'}.")
        if not isinstance(link, h5py.HardLink):
            raise InputError(
                f"{name!r} in {self.path} is a link to elsewhere, which is not followed."
            )
        entry = self.file[name]
        if not isinstance(entry, h5py.Dataset):
            raise InputError(f"{name!r} in {self.path} is a group, not a dataset.")
        if entry.is_virtual or entry.external:
            raise InputError(f"{name!r} in {self.path} has its values in other files, not read.")
        return entry

    def identity(self) -> FeatureIdentity | None:
        """Returns what the file says of its features, as this project's export writes it."""
        told = self.file.attrs.get("identity")
        if not isinstance(told, str):
            return None
        try:
            return FeatureIdentity.from_json(json.loads(told))
        except (ValueError, RecursionError, SchemaError) as error:
            raise InputError(
                f"The attribute 'identity' of {self.path} is damaged: {error}"
            ) from error

    def read(self, dataset: h5py.Dataset, row: int | None = None) -> Floats:
        """Returns a dataset's values, or those of one row.

        Raises:
            UnusableClip: they are no numbers, or damaged.
        """
        require_floats(dataset.shape[0 if row is None else 1 :], dataset.dtype)
        try:
            values: Floats = dataset[()] if row is None else dataset[row]
        except (OSError, ValueError, RuntimeError) as error:
            raise UnusableClip("unreadable", one_line(str(error))) from error
        return values


class Hdf5Rows:
    """A file with one dataset for all clips, row i being the clip ``ids[i]``; ids may be numbers.

    Args:
        path: the file.
        layout: what its datasets are called and how their axes go.
        dataset: name of the features' dataset where it has another.

    Raises:
        InputError: the file is no such HDF5 file.
    """

    def __init__(self, path: Path, layout: RowsLayout, *, dataset: str | None = None) -> None:
        self._source = _File(path)
        self._layout = layout
        self._features = self._source.dataset(dataset or self._usual_name())
        self._patches: h5py.Dataset | None = None
        if layout == "rows" and dataset is None and "patch_features" in self._source.file:
            self._patches = self._source.dataset("patch_features")
        self._times = self._source.dataset(_TIMES) if _TIMES in self._source.file else None
        self._rows, self._refused = _ids(self._source.dataset(_IDS), path)
        self._require_shapes()

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips, in the order of their rows."""
        return list(self._rows)

    @property
    def refused(self) -> Mapping[str, str]:
        """Ids that cannot be a clip's."""
        return self._refused

    @cached_property
    def identity(self) -> FeatureIdentity | None:
        """What the file itself says its features are."""
        return self._source.identity()

    @property
    def sizes(self) -> SourceSizes:
        """Sizes that all clips share."""
        shape = self._features.shape
        if self._layout == "mist":
            return SourceSizes(frames=shape[1], patches=shape[2] - 1, dim=shape[3])
        frames = int(np.prod(shape[1:-1]))
        patches = 0 if self._patches is None else self._patches.shape[2]
        return SourceSizes(frames=frames, patches=patches, dim=shape[-1])

    def read(self, clip_id: str) -> SourceClip:
        """Returns a clip's features.

        Raises:
            UnusableClip: its row is damaged, or holds no floating-point numbers.
        """
        row = self._rows[clip_id]
        _, patches, dim = self.sizes
        of_frame = 1 + patches if self._patches is None else 1
        tokens = self._source.read(self._features, row).reshape(-1, of_frame, dim)
        patch = tokens[:, 1:]
        if self._patches is not None:
            patch = self._source.read(self._patches, row).reshape(-1, patches, dim)
        return SourceClip(
            cls=tokens[:, 0],
            patch=patch,
            frame_time=_times(self._source.read(self._times, row)) if self._times else None,
            path=self._source.path.name,
            size=tokens.nbytes + (0 if self._patches is None else patch.nbytes),
        )

    def close(self) -> None:
        """Closes the file."""
        self._source.file.close()

    def _usual_name(self) -> str:
        if self._layout != "hcrn":
            return "cls_features" if self._layout == "rows" else "features"
        named = [name for name in self._source.file if name.endswith("_features")]
        if len(named) != 1:
            raise InputError(
                f"{self._source.path} has {len(named)} datasets called *_features"
                f"{': ' if named else ''}{', '.join(map(one_line, named))}; name one with --dataset."
            )
        return str(named[0])

    def _require_shapes(self) -> None:
        path, count = self._source.path, len(self._rows) + len(self._refused)
        axes = {"rows": (3,), "mist": (4,), "hcrn": (3, 4)}[self._layout]
        parts = [
            (self._features, axes), (self._patches, (4,)), (self._times, (2,)),
        ]  # fmt: skip
        for dataset, wanted in parts:
            if dataset is None:
                continue
            shape = dataset.shape
            if len(shape) not in wanted or shape[0] != count or 0 in shape:
                expected = " or ".join(map(str, wanted))
                raise InputError(
                    f"{dataset.name} in {path} has shape {shape}; the layout {self._layout} wants "
                    f"{expected} axes, the first of {count}, as many as there are ids."
                )
        frames, _, dim = self.sizes
        for dataset, shape in ((self._patches, (frames, dim)), (self._times, (frames,))):
            if dataset is not None and dataset.shape[1::2] != shape:
                raise InputError(
                    f"{dataset.name} in {path} has shape {dataset.shape}, beside features of shape "
                    f"{self._features.shape}."
                )


class Hdf5PerClip:
    """A file with a dataset for each clip, [T, D] or [T, 1 + P, D] with the frame's vector first.

    Args:
        path: the file.

    Raises:
        InputError: it is no HDF5 file, or has no datasets.
    """

    def __init__(self, path: Path) -> None:
        self._source = _File(path)
        # Only this project's export spells awkward ids with percent signs.
        ours = self._source.file.attrs.get("layout") == "per-clip"
        self._names: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        for name in self._source.file:
            clip_id = unquote(name) if ours else str(name)
            if problem := clip_id_rule(clip_id):
                self._refused[one_line(clip_id)] = f"cannot be a clip id: it {problem}"
                continue
            try:
                self._source.dataset(name)
            except InputError as error:
                self._refused[one_line(clip_id)] = one_line(str(error))
            else:
                self._names[clip_id] = name
        if not self._names and not self._refused:
            raise InputError(f"{path} has no datasets.")

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips, in the order of their names."""
        return list(self._names)

    @property
    def refused(self) -> Mapping[str, str]:
        """Entries that cannot be a clip's features."""
        return self._refused

    @cached_property
    def identity(self) -> FeatureIdentity | None:
        """What the file itself says its features are."""
        return self._source.identity()

    @cached_property
    def sizes(self) -> SourceSizes:
        """Sizes of the first clip of the right form, and whether all have its frames.

        Raises:
            InputError: no clip is.
        """
        shapes = []
        for name in self._names.values():
            dataset = self._source.file[name]
            with suppress(UnusableClip):
                require_floats(dataset.shape, dataset.dtype)
                if len(dataset.shape) in {2, 3}:
                    shapes.append(dataset.shape)
        if not shapes:
            raise InputError(
                f"No dataset of {self._source.path} holds features [T, D] or [T, 1 + P, D] of "
                f"floating-point numbers."
            )
        return SourceSizes.of_shapes(shapes)

    def read(self, clip_id: str) -> SourceClip:
        """Returns a clip's features.

        Raises:
            UnusableClip: its dataset is damaged, or of another form.
        """
        dataset = self._source.file[self._names[clip_id]]
        features = self._source.read(dataset)
        if features.ndim not in {2, 3}:
            what = f"has shape {features.shape}, not [T, D] or [T, 1 + P, D]"
            raise UnusableClip("wrong_shape", what)
        tokens = features if features.ndim == 3 else features[:, None]
        times = dataset.attrs.get(_TIMES)
        return SourceClip(
            cls=tokens[:, 0],
            patch=tokens[:, 1:],
            frame_time=None if times is None else _times(np.asarray(times)),
            path=self._source.path.name,
            size=features.nbytes,
        )

    def close(self) -> None:
        """Closes the file."""
        self._source.file.close()


def _ids(dataset: h5py.Dataset, path: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Returns the row of every id, and what cannot be one."""
    known = dataset.dtype.kind in "iuS" or h5py.check_string_dtype(dataset.dtype) is not None
    if len(dataset.shape) != 1 or not known:
        raise InputError(f"'ids' in {path} is {dataset.dtype} {dataset.shape}, no list of ids.")
    rows: dict[str, int] = {}
    refused: dict[str, str] = {}
    for row, value in enumerate(dataset[()]):
        try:
            clip_id = value.decode("utf-8") if isinstance(value, bytes) else str(value)
        except UnicodeDecodeError:
            refused[f"row {row}"] = "its id is not UTF-8"
            continue
        if problem := clip_id_rule(clip_id):
            refused[f"row {row}: {one_line(clip_id)}"] = f"cannot be a clip id: it {problem}"
        elif clip_id in rows:
            refused[f"row {row}: {clip_id}"] = f"has the id of row {rows[clip_id]}"
        else:
            rows[clip_id] = row
    return rows, refused


def _times(values: Floats) -> npt.NDArray[np.float64] | None:
    """Returns times; an export of a store that does not know them holds NaN."""
    times = values.astype(np.float64)
    if np.isnan(times).all():
        return None
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise UnusableClip("wrong_times", "frame times are not finite, or go backwards")
    return times
