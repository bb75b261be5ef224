"""Reading features out of a store, at a pinned version of its manifest."""

import os
from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cache_schema.errors import ClipMissing, InputError
from cache_schema.identity import FeatureIdentity
from cache_schema.manifest import read_manifest, row_outcome
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.shard_file import ShardFiles
from cache_schema.store_root import read_root

Float16 = npt.NDArray[np.float16]


def open_store(
    location: str | os.PathLike[str], version: int | None = None, *, check: bool = True
) -> "FeatureStore":
    """Opens a store for reading, at one version of its manifest.

    Args:
        location: path of the store.
        version: manifest version; the newest by default. What is committed later is not seen.
        check: whether to compare the crc32c of everything that is read.

    Raises:
        StoreAbsent: nothing is at the path, or an empty folder.
        StoreForeign: something else is at the path.
        StoreOlder: the store has an earlier format.
        StoreNewer: the store has a later format, or features that a reader must know.
        CorruptStore: the store's metadata or manifest are damaged.
        InputError: there is no such version.
    """
    return FeatureStore(location, version, check=check)


class FeatureStore:
    """The features of a store as one version of its manifest lists them.

    May be used by many threads, after a fork, and pickled: it travels as location and version, and keeps
    no file open. Arguments and errors as ``open_store``.
    """

    def __init__(
        self, location: str | os.PathLike[str], version: int | None = None, *, check: bool = True
    ) -> None:
        self._root = read_root(location)
        columns = ["clip_id", "status", "segment", "slot"]
        manifest = read_manifest(self._root, version, columns)
        self._version = manifest.version
        self._check = check
        clip_ids, status, segment, slot = manifest.table.columns
        self._row = {clip_id: row for row, clip_id in enumerate(clip_ids.to_pylist())}
        self._ok = np.array([value == Status.OK for value in status.to_pylist()], dtype=np.bool_)
        self._segment = segment.to_numpy()
        self._slot = slot.to_numpy()
        layout = self._root.layout
        self._patch = ShardFiles(self._root.storage, layout.patch_shard, check=check)
        self._cls = ShardFiles(self._root.storage, layout.cls_shard, check=check)

    def __reduce__(self) -> tuple[object, ...]:
        return _reopen, (self.location, self._version, self._check)

    def __len__(self) -> int:
        return int(self._ok.sum())

    def __contains__(self, clip_id: object) -> bool:
        row = self._row.get(cast("str", clip_id))
        return row is not None and bool(self._ok[row])

    @property
    def location(self) -> str:
        """Path or URL of the store."""
        return self._root.storage.location

    @property
    def identity(self) -> FeatureIdentity:
        """What the store's features are."""
        return self._root.identity

    @property
    def version(self) -> int:
        """Version of the manifest that this reader is pinned to; 0 before the first."""
        return self._version

    @cached_property
    def clip_ids(self) -> list[str]:
        """Ids of the clips that have features, sorted."""
        return [clip_id for clip_id, row in self._row.items() if self._ok[row]]

    def manifest(self) -> pa.Table:
        """Returns the manifest: one row per clip, failed ones included, sorted by clip id."""
        return self._table

    def outcome(self, clip_id: str) -> ClipOutcome:
        """Returns what became of a clip in extraction.

        Raises:
            ClipMissing: the manifest has no row of the clip.
        """
        row = self._row.get(clip_id)
        if row is None:
            raise ClipMissing(self._missing(clip_id))
        return row_outcome(self._table.slice(row, 1).to_pylist()[0])

    def frame_times(self, clip_id: str) -> npt.NDArray[np.float64]:
        """Returns the presentation times of a clip's frames in seconds, float64 [N].

        Raises:
            ClipMissing: the store has no features of the clip.
        """
        row = self._require(clip_id)
        values = self._table.column("frame_time")[row].values
        return np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)

    def read_cls(self, clip_ids: Sequence[str], out: Float16 | None = None) -> Float16:
        """Reads the CLS features of some clips.

        Args:
            clip_ids: B clips, in any order.
            out: float16 [B, N, D] to read into; a new array by default.

        Returns:
            float16 [B, N, D], ``out`` where it was given.

        Raises:
            ClipMissing: the store has no features of a clip.
            CorruptStore: a file is missing, short or fails its checksum.
            InputError: ``out`` does not fit.
        """
        layout = self._root.layout
        rows = [self._require(clip_id) for clip_id in clip_ids]
        out = _target(out, (len(rows), layout.frames, layout.dim))
        flat = out.reshape(len(rows), 1, layout.frames * layout.dim).view(np.uint8)
        for position, (clip_id, row) in enumerate(zip(clip_ids, rows, strict=True)):
            segment = int(self._segment[row])
            block, chunk = divmod(int(self._slot[row]), layout.block_slots)
            place = layout.cls_file(segment, block)
            self._cls.read(place, (segment, block), (chunk,), flat[position], clip_id)
        return out

    def read_patches(
        self,
        clip_ids: Sequence[str],
        frames: npt.ArrayLike | None = None,
        out: Float16 | None = None,
    ) -> Float16:
        """Reads the patch features of some clips: all frames, or chosen ones of each.

        Args:
            clip_ids: B clips, in any order.
            frames: integers [B, K], frames of each clip in any order; all N by default.
            out: float16 [B, K or N, P, D] to read into; a new array by default.

        Returns:
            float16 [B, K or N, P, D], ``out`` where it was given.

        Raises:
            ClipMissing: the store has no features of a clip.
            CorruptStore: a file is missing, short or fails its checksum.
            InputError: ``frames`` or ``out`` do not fit.
        """
        layout = self._root.layout
        rows = [self._require(clip_id) for clip_id in clip_ids]
        chosen: list[Sequence[int]] = [range(layout.frames)] * len(rows)
        count = layout.frames
        if frames is not None:
            wanted = _frame_numbers(frames, len(rows), layout.frames)
            chosen, count = wanted.tolist(), wanted.shape[1]
        out = _target(out, (len(rows), count, layout.patches, layout.dim))
        flat = out.reshape(len(rows), count, layout.patches * layout.dim).view(np.uint8)
        for position, (clip_id, row) in enumerate(zip(clip_ids, rows, strict=True)):
            address = int(self._segment[row]), int(self._slot[row])
            place = layout.patch_file(*address)
            self._patch.read(place, address, chosen[position], flat[position], clip_id)
        return out

    @cached_property
    def _table(self) -> pa.Table:
        return read_manifest(self._root, self._version).table

    def _require(self, clip_id: str) -> int:
        row = self._row.get(clip_id)
        if row is None:
            raise ClipMissing(self._missing(clip_id))
        if not self._ok[row]:
            outcome = self.outcome(clip_id)
            raise ClipMissing(
                f"Clip {clip_id!r} failed in extraction ({outcome.reason}: {outcome.detail}), so the "
                f"store {self.location} has no features of it. Leave it out, or extract it again."
            )
        return row

    def _missing(self, clip_id: str) -> str:
        return (
            f"Clip {clip_id!r} is not among the {len(self._row)} clips of the store {self.location} at "
            f"manifest version {self._version}. Extract it, or compact the store if that was done."
        )


def _reopen(location: str, version: int, check: bool) -> FeatureStore:
    return FeatureStore(location, version, check=check)


def _target(out: Float16 | None, shape: tuple[int, ...]) -> Float16:
    if out is None:
        return np.empty(shape, dtype=np.float16)
    if out.shape != shape or out.dtype != np.float16:
        raise InputError(f"out is {out.dtype} {out.shape}, but float16 {shape} will be read.")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise InputError("out must be C-contiguous and writeable; give a whole array, not a slice.")
    return out


def _frame_numbers(frames: npt.ArrayLike, clips: int, limit: int) -> npt.NDArray[np.integer]:
    wanted = np.asarray(frames)
    if wanted.ndim != 2 or len(wanted) != clips or wanted.dtype.kind not in "iu":
        raise InputError(
            f"frames is {wanted.dtype} {wanted.shape}; it must be whole numbers of shape ({clips}, K), "
            f"a row for each clip."
        )
    if wanted.size and (wanted.min() < 0 or wanted.max() >= limit):
        raise InputError(
            f"frames holds {wanted.min()} to {wanted.max()}; clips of this store have frames 0 to "
            f"{limit - 1}."
        )
    return wanted
