"""Exchange with code that reads HDF5: a store's features in the two layouts that the field uses.

Nothing imports this module on the way to a store, so that reading and writing one needs no h5py.
"""

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import h5py
import numpy as np
import numpy.typing as npt

from cache_schema.errors import ClipMissing, InputError
from cache_schema.layout import FORMAT
from cache_schema.reader import FeatureStore
from cache_schema.storage.durable_files import sync_folder, temporary_name

ExportLayout = Literal["rows", "per-clip", "mist"]
"""``rows``: a dataset for all clips, and their ids; ``per-clip``: a dataset for each clip; ``mist``: as
``rows``, with CLS and patches as the tokens of one dataset."""

ExportDtype = Literal["float16", "float32"]
"""Number type of the exported features; both hold the store's values exactly."""

Features = npt.NDArray[np.float16] | npt.NDArray[np.float32]

_LARGEST_CHUNK: Final = 1 << 20
"""HDF5's chunk cache before version 2; a larger chunk is read whole for each frame asked for."""
_CHECKSUM_BYTES: Final = 4
"""Fletcher-32, after every chunk."""
_CLIP_OVERHEAD: Final[dict[ExportLayout, int]] = {"rows": 128, "per-clip": 3584, "mist": 128}
_CHUNK_OVERHEAD: Final = 112
_FILE_OVERHEAD: Final = 32_768
"""What HDF5 adds for headers, names and indexes: measured with version 2.0, and rounded up."""

_ESCAPED: Final = str.maketrans({"%": "%25", "/": "%2F"})


def export_hdf5(
    store: FeatureStore,
    path: str | os.PathLike[str],
    *,
    layout: ExportLayout,
    clip_ids: Iterable[str] | None = None,
    patches: bool = False,
    dtype: ExportDtype = "float16",
    name: str = "cls",
    numeric_ids: bool = False,
    on_clip: Callable[[str], None] | None = None,
) -> int:
    """Writes clips of a store into a new HDF5 file, one clip in memory at a time.

    With V clips of N frames, P patches and width D, the file holds

    - ``rows``: ``cls_features`` [V, N, D], with patches also ``patch_features`` [V, N, P, D], then
      ``ids`` (V UTF-8 strings) and ``frame_time`` float64 [V, N]; row i is the clip ``ids[i]``. This
      is how HCRN (Le et al., CVPR 2020) and the code that follows it keep features.
    - ``mist``: ``features`` [V, N, 1 + P, D] with the CLS feature as token 0, ``ids`` and
      ``frame_time`` as above: how MIST (Gao et al., CVPR 2023) keeps them, with N = 32 and P = 16.
    - ``per-clip``: for each clip a dataset called ``dataset_name(clip_id)``, [N, D], or with patches
      [N, 1 + P, D] with the CLS feature as token 0; ``frame_time`` float64 [N] is its attribute.

    The file's attributes ``identity`` (canonical JSON), ``digest``, ``manifest_version``,
    ``store_format`` and ``layout`` say what the features are and where they come from. Every chunk of
    features carries a checksum, which HDF5 compares on reading.

    The file has its name only when it is whole. A process that is killed leaves a file whose name
    starts with ``.tmp-``, which may be removed.

    Args:
        store: the store, at the version it was opened with.
        path: the file to create; its folder is made where it is missing.
        layout: ``rows``, ``per-clip`` or ``mist``.
        clip_ids: the clips in the order of their rows; all clips of the store by default.
        patches: whether to write the patch features too; ``mist`` always does.
        dtype: number type of the features.
        name: in ``rows``, what the CLS features' dataset is called before ``_features``.
        numeric_ids: whether to write ids as int64, which HCRN wants; all must be whole numbers.
        on_clip: called with the id of each clip once it is written.

    Returns:
        The number of clips written.

    Raises:
        InputError: the path is taken, lies within the store or on a full disk; no clips are asked
            for, or one twice; layout or dtype are unknown; there are no patches, or ids are no
            numbers.
        ClipMissing: the store has no features of a clip.
        CorruptStore: the store's files are damaged.
        OSError: the file cannot be written.
    """
    export = _plan(store, layout, clip_ids, patches, dtype, name, numeric_ids)
    target = Path(path)
    _refuse_taken(target)
    if target.resolve().is_relative_to(Path(store.location).resolve()):
        raise InputError(
            f"{target} lies within the store {store.location}, where nothing but the store belongs. "
            f"Give a path outside it."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    _refuse_full_disk(target.parent, export.bytes)
    temporary = temporary_name(target)
    try:
        # The name is nobody else's, so a file system that cannot lock, as some clusters', will do.
        # HDF5 1.8, of 2008, reads the file; the format before it holds attributes of 64 KiB at most.
        with h5py.File(temporary, "x", libver=("v108", "v108"), locking="best-effort") as file:
            _write_provenance(file, export)
            write = _write_per_clip if layout == "per-clip" else _write_rows
            write(file, export, on_clip or _no_report)
        _force_to_disk(temporary)
        # Asked again, since hours may have passed. A link would leave no gap between question and
        # rename, but exports go to disks that have no hard links too.
        _refuse_taken(target)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
    return len(export.clip_ids)


def export_bytes(
    store: FeatureStore,
    *,
    layout: ExportLayout,
    clip_ids: Iterable[str] | None = None,
    patches: bool = False,
    dtype: ExportDtype = "float16",
) -> int:
    """Returns the size of the file that ``export_hdf5`` would write, without writing it.

    The features are counted exactly and HDF5's own structures estimated on the large side.
    Arguments and errors as ``export_hdf5``.
    """
    return _plan(store, layout, clip_ids, patches, dtype).bytes


def dataset_name(clip_id: str) -> str:
    """Returns the name of a clip's dataset in the ``per-clip`` layout.

    HDF5 takes ``/`` for a border between groups and ``.`` for the group itself. Percent signs and
    slashes become ``%25`` and ``%2F``, the id ``.`` becomes ``%2E``, and all else stays as it is, so
    that ``urllib.parse.unquote`` gives the id back.
    """
    return "%2E" if clip_id == "." else clip_id.translate(_ESCAPED)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Export:
    """What is to be written: clips of a store, in a layout."""

    store: FeatureStore
    clip_ids: list[str]
    layout: ExportLayout
    patches: bool
    dtype: ExportDtype
    name: str
    numeric_ids: bool

    @property
    def clip_shapes(self) -> list[tuple[int, ...]]:
        """Shape of each feature dataset, without the axis of the clips."""
        identity = self.store.identity
        n, p, d = identity.frames, identity.patches, identity.dim
        if self.layout != "rows":
            return [(n, 1 + p, d)] if self.patches else [(n, d)]
        return [(n, d), (n, p, d)] if self.patches else [(n, d)]

    @property
    def sources(self) -> dict[str, Callable[[str], Features]]:
        """What is written into the datasets for all clips, by their names."""
        if self.layout == "mist":
            return {"features": self.tokens}
        patch = {"patch_features": self.patch} if self.patches else {}
        return {f"{self.name}_features": self.cls, **patch}

    def chunk(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the chunk for a clip's features: whole frames, as many as the cache takes.

        HDF5 stores the last chunk in full, so the frames are dealt out evenly.
        """
        frames, *rest = shape
        fitting = max(1, _LARGEST_CHUNK // (math.prod(rest) * np.dtype(self.dtype).itemsize))
        return -(-frames // -(-frames // fitting)), *rest

    @property
    def bytes(self) -> int:
        """Expected size of the file."""
        clip_bytes = _CLIP_OVERHEAD[self.layout] + self.store.identity.frames * 8
        for shape in self.clip_shapes:
            chunk = self.chunk(shape)
            chunk_bytes = math.prod(chunk) * np.dtype(self.dtype).itemsize + _CHECKSUM_BYTES
            clip_bytes += -(-shape[0] // chunk[0]) * (chunk_bytes + _CHUNK_OVERHEAD)
        names = sum(len(clip_id.encode()) for clip_id in self.clip_ids)
        return len(self.clip_ids) * clip_bytes + names + _FILE_OVERHEAD

    def cls(self, clip_id: str) -> Features:
        """Returns a clip's CLS features [N, D]."""
        features: Features = self.store.read_cls([clip_id])[0].astype(self.dtype, copy=False)
        return features

    def patch(self, clip_id: str) -> Features:
        """Returns a clip's patch features [N, P, D]."""
        features: Features = self.store.read_patches([clip_id])[0].astype(self.dtype, copy=False)
        return features

    def tokens(self, clip_id: str) -> Features:
        """Returns a clip's tokens: CLS features [N, D], with patches [N, 1 + P, D]."""
        if not self.patches:
            return self.cls(clip_id)
        return np.concatenate([self.cls(clip_id)[:, None], self.patch(clip_id)], axis=1)


def _plan(
    store: FeatureStore,
    layout: ExportLayout,
    clip_ids: Iterable[str] | None,
    patches: bool,
    dtype: ExportDtype,
    name: str = "cls",
    numeric_ids: bool = False,
) -> _Export:
    for option, value, known in (
        ("layout", layout, get_args(ExportLayout)),
        ("dtype", dtype, get_args(ExportDtype)),
    ):
        if value not in known:
            raise InputError(f"The export's {option} is {value!r}, not one of {', '.join(known)}.")
    if not name.isidentifier() or name == "patch":
        raise InputError(f"{name!r} cannot name CLS features; give one word, such as resnet.")
    chosen = list(store.clip_ids if clip_ids is None else clip_ids)
    where = f"the store {store.location} at manifest version {store.version}"
    if not chosen:
        raise InputError(f"No clips to export: {len(store)} clips have features in {where}.")
    missing = [clip_id for clip_id in chosen if clip_id not in store]
    if missing:
        raise ClipMissing(
            f"{len(missing)} of {len(chosen)} clips to export have no features in {where}, the first "
            f"is {missing[0]!r}. Leave them out, or extract them."
        )
    clip_id, times = Counter(chosen).most_common(1)[0]
    if times > 1:
        raise InputError(f"Clip {clip_id!r} is to be exported {times} times; name each clip once.")
    patches = patches or layout == "mist"
    if patches and store.identity.patches == 0:
        raise InputError(f"There are no patches in {where}: it has one vector a frame.")
    words = [clip_id for clip_id in chosen if str(_number(clip_id)) != clip_id]
    if numeric_ids and words:
        raise InputError(
            f"{len(words)} of {len(chosen)} ids are no whole numbers, the first is {words[0]!r}; "
            f"write ids as text."
        )
    return _Export(
        store=store,
        clip_ids=chosen,
        layout=layout,
        patches=patches,
        dtype=dtype,
        name=name,
        numeric_ids=numeric_ids,
    )


def _number(clip_id: str) -> int | None:
    # More digits than an int64 has are no number that a file could hold.
    return int(clip_id) if clip_id.isascii() and clip_id.isdecimal() and len(clip_id) < 19 else None


def _write_provenance(file: h5py.File, export: _Export) -> None:
    identity = export.store.identity
    file.attrs["identity"] = json.dumps(identity.to_json(), sort_keys=True, separators=(",", ":"))
    file.attrs["digest"] = identity.digest
    file.attrs["manifest_version"] = export.store.version
    file.attrs["store_format"] = FORMAT
    file.attrs["layout"] = export.layout


def _write_rows(file: h5py.File, export: _Export, on_clip: Callable[[str], None]) -> None:
    clips, frames = len(export.clip_ids), export.store.identity.frames
    features = [
        (_feature_dataset(file, name, (clips, *shape), (1, *export.chunk(shape)), export), read)
        for (name, read), shape in zip(export.sources.items(), export.clip_shapes, strict=True)
    ]
    if export.numeric_ids:
        file.create_dataset("ids", data=np.array(export.clip_ids, dtype=np.int64))
    else:
        file.create_dataset("ids", data=export.clip_ids, dtype=h5py.string_dtype("utf-8"))
    times = file.create_dataset("frame_time", (clips, frames), np.float64)
    for row, clip_id in enumerate(export.clip_ids):
        for dataset, read in features:
            dataset[row] = read(clip_id)
        times[row] = export.store.frame_times(clip_id)
        on_clip(clip_id)


def _write_per_clip(file: h5py.File, export: _Export, on_clip: Callable[[str], None]) -> None:
    (shape,) = export.clip_shapes
    for clip_id in export.clip_ids:
        tokens = export.tokens(clip_id)
        name, chunk = dataset_name(clip_id), export.chunk(shape)
        dataset = _feature_dataset(file, name, shape, chunk, export)
        dataset[...] = tokens
        dataset.attrs["frame_time"] = export.store.frame_times(clip_id)
        on_clip(clip_id)


def _feature_dataset(
    file: h5py.File, name: str, shape: tuple[int, ...], chunk: tuple[int, ...], export: _Export
) -> h5py.Dataset:
    return file.create_dataset(name, shape, export.dtype, chunks=chunk, fletcher32=True)


def _refuse_taken(path: Path) -> None:
    if os.path.lexists(path):
        raise InputError(
            f"There is already something at {path}, and an export overwrites nothing. Remove it, or "
            f"give another path."
        )


def _refuse_full_disk(folder: Path, needed: int) -> None:
    """Asks before hours of writing; HDF5 also fares badly when a disk fills up under it."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"The export needs {needed:,} bytes, but {folder} has {free:,} free. Export fewer clips, "
            f"leave out the patches, or give a path on another disk."
        )


def _force_to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _no_report(_clip_id: str) -> None:
    """Takes the place of a progress report that nobody asked for."""
