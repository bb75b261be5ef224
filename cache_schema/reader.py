"""Reading features out of a store, at a pinned version of its manifest."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cache_schema.errors import ClipMissing, InputError
from cache_schema.identity import FeatureIdentity
from cache_schema.manifest.manifest import read_manifest
from cache_schema.manifest.manifest_index import NOWHERE, FoundRows
from cache_schema.manifest.manifest_row import row_outcome
from cache_schema.outcome import ClipOutcome
from cache_schema.shards.patch_files import PatchFiles
from cache_schema.shards.shard_cache import ShardCache
from cache_schema.shards.shard_file import ShardRead
from cache_schema.shards.shard_source import ShardSource
from cache_schema.store_root import StoreRoot, read_root

Float16 = npt.NDArray[np.float16]

# About 150 bytes each. Of a larger store, clips read again are looked up again.
_PLACES_KEPT: Final = 2**17


def open_store(
    location: str | os.PathLike[str],
    version: int | None = None,
    *,
    check: bool = True,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int | None = None,
    direct: bool = False,
) -> "FeatureStore":
    """Opens a store for reading, at one version of its manifest.

    Args:
        location: path of the store, or its URL: ``s3://bucket/folder``, ``gs://``, ``az://``,
            ``http://`` or ``https://``.
        version: manifest version; the newest by default. What is committed later is not seen.
        check: whether to compare the crc32c of everything that is read.
        cache: for a store at a URL, a local folder for copies of the shards that are read, from
            which later reads take them as from a local store.
        cache_bytes: about how much the cache may hold; no limit by default.
        direct: read a local store around the page cache. It pays where each pass reads far more than fits
            into memory, and costs where the page cache would answer.

    Raises:
        StoreAbsent: nothing is at the path, or an empty folder.
        StoreForeign: something else is at the path.
        StoreOlder: the store has an earlier format.
        StoreNewer: the store has a later format, or features that a reader must know.
        CorruptStore: the store's metadata or manifest are damaged.
        InputError: there is no such version; a cache was asked for a store that is local, or direct
            reads of one that is not; the URL is of another kind, or obstore is not installed.
        StoreUnreachable: the server does not answer, or refuses (StoreDenied).
    """
    return FeatureStore(
        location, version, check=check, cache=cache, cache_bytes=cache_bytes, direct=direct
    )


class FeatureStore:
    """The features of a store as one version of its manifest lists them.

    May be used by many threads, after a fork, and pickled: it travels as location and version, and keeps
    no file open. Arguments and errors as ``open_store``.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        version: int | None = None,
        *,
        check: bool = True,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int | None = None,
        direct: bool = False,
    ) -> None:
        self._root = read_root(location)
        if direct:
            _require_local(self._root)
        self.cache = None if cache is None else _cache(self._root, Path(cache), cache_bytes)
        """Local copies of what was read; None without a cache."""
        self._manifest = read_manifest(self._root, version)
        self._check = check
        self._direct = direct
        self._places: dict[str, tuple[int, int]] = {}
        layout = self._root.layout
        source = ShardSource(
            storage=self._root.storage, check=check, cache=self.cache, direct=direct
        )
        self._patch = PatchFiles(source, layout)
        self._cls = source.reader(layout.cls_shard)

    def __reduce__(self) -> tuple[object, ...]:
        cache = self.cache
        kept = (None, None) if cache is None else (str(cache.folder), cache.max_bytes)
        return _reopen, (self.location, self.version, self._check, *kept, self._direct)

    def __len__(self) -> int:
        return self._manifest.version.ok

    def __contains__(self, clip_id: object) -> bool:
        return isinstance(clip_id, str) and bool(self._manifest.index.find([clip_id]).ok[0])

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
        return self._manifest.version.number

    @cached_property
    def clip_ids(self) -> list[str]:
        """Ids of the clips that have features, sorted; read when first asked for."""
        return self._manifest.ok_ids()

    def manifest(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Reads the manifest: one row per clip, failed ones included, sorted by clip id.

        Args:
            columns: names of its columns; all by default, which is about 1.3 KB a clip in memory.

        Raises:
            InputError: there is no such column.
            CorruptStore: the manifest is damaged.
        """
        return self._manifest.table(columns)

    def rows(self, clip_ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Reads the manifest's rows of some clips, in the order asked for.

        Args:
            clip_ids: the clips.
            columns: names of its columns; all by default.

        Raises:
            ClipMissing: the manifest has no row of a clip.
            InputError: there is no such column.
            CorruptStore: the manifest is damaged.
        """
        return self._manifest.rows(self._find(clip_ids), columns)

    def outcome(self, clip_id: str) -> ClipOutcome:
        """Returns what became of a clip in extraction.

        Raises:
            ClipMissing: the manifest has no row of the clip.
        """
        return self.outcomes([clip_id])[0]

    def outcomes(self, clip_ids: Sequence[str]) -> list[ClipOutcome]:
        """Returns what became of some clips, in the order asked for; many at once cost little more.

        Raises:
            ClipMissing: the manifest has no row of a clip.
        """
        return list(map(row_outcome, self.rows(clip_ids).to_pylist()))

    def frame_times(self, clip_id: str) -> npt.NDArray[np.float64]:
        """Returns the presentation times of a clip's frames in seconds, float64 [N].

        All are NaN where an imported store does not know them.

        Raises:
            ClipMissing: the store has no features of the clip.
        """
        self._places_of([clip_id])
        values = self.rows([clip_id], ["frame_time"]).column("frame_time")[0].values
        if values is None:
            return np.full(self.identity.frames, np.nan)
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
        places = self._places_of(clip_ids)
        out = _target(out, (len(places), layout.frames, layout.dim))
        flat = out.reshape(len(places), 1, layout.frames * layout.dim).view(np.uint8)
        reads = []
        for clip_id, (segment, slot), row in zip(clip_ids, places, flat, strict=True):
            block, chunk = divmod(slot, layout.block_slots)
            file = layout.cls_file(segment, block)
            reads.append(ShardRead(file, (segment, block), (chunk,), row, clip_id))
        self._cls.read_all(reads)
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
            float16 [B, K or N, P, D], ``out`` where it was given; P is 0 in a store of one vector a
            frame, and int8 patches come as float16.

        Raises:
            ClipMissing: the store has no features of a clip.
            CorruptStore: a file is missing, short or fails its checksum.
            InputError: ``frames`` or ``out`` do not fit.
        """
        layout = self._root.layout
        places = self._places_of(clip_ids)
        chosen: list[Sequence[int]] = [range(layout.frames)] * len(places)
        count = layout.frames
        if frames is not None:
            wanted = _frame_numbers(frames, len(places), layout.frames)
            chosen, count = wanted.tolist(), wanted.shape[1]
        out = _target(out, (len(places), count, layout.patches, layout.dim))
        self._patch.read(places, chosen, out, clip_ids)
        return out

    def read_patch_scales(self, clip_ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """Reads the scales that the int8 patches of some clips are multiplied with.

        Args:
            clip_ids: B clips, in any order.

        Returns:
            float32 [B, N, P]; P is 0 in a store whose patches are not int8.

        Raises:
            ClipMissing, CorruptStore: as ``read_patches``.
        """
        if not self._root.layout.quantised:
            return np.empty((len(clip_ids), self.identity.frames, 0), dtype=np.float32)
        return self._patch.read_scales(self._places_of(clip_ids), clip_ids)

    def _places_of(self, clip_ids: Sequence[str]) -> list[tuple[int, int]]:
        """Returns segment and slot of clips, which are looked up only once."""
        known = self._places
        try:
            return [known[clip_id] for clip_id in clip_ids]
        except KeyError:
            found = self._find(clip_ids)
        if not found.ok.all():
            clip_id = clip_ids[int(np.argmin(found.ok))]
            outcome = self.outcome(clip_id)
            raise ClipMissing(
                f"Clip {clip_id!r} failed in extraction ({outcome.reason}: {outcome.detail}), so the "
                f"store {self.location} has no features of it. Leave it out, or extract it again."
            )
        places = list(zip(found.segment.tolist(), found.slot.tolist(), strict=True))
        if len(known) + len(places) > _PLACES_KEPT:
            # A new dictionary: other threads may be reading the old one.
            self._places = known = {}
        known.update(zip(clip_ids[:_PLACES_KEPT], places, strict=False))
        return places

    def _find(self, clip_ids: Sequence[str]) -> FoundRows:
        found = self._manifest.index.find(clip_ids)
        if (found.part == NOWHERE).any():
            clip_id = clip_ids[int(np.argmin(found.part))]
            raise ClipMissing(
                f"Clip {clip_id!r} is not among the {self._manifest.version.clips} clips of the store "
                f"{self.location} at manifest version {self.version}. Extract it, or compact the store "
                f"if that was done."
            )
        return found


def _reopen(
    location: str,
    version: int,
    check: bool,
    cache: str | None,
    cache_bytes: int | None,
    direct: bool,
) -> FeatureStore:
    return FeatureStore(
        location, version, check=check, cache=cache, cache_bytes=cache_bytes, direct=direct
    )


def _require_local(root: StoreRoot) -> None:
    if root.storage.local_file("") is None:
        raise InputError(
            f"The store {root.storage.location} is not local, so there is no page cache to read "
            f"around. Open it without `direct`."
        )


def _cache(root: StoreRoot, folder: Path, max_bytes: int | None) -> ShardCache:
    if root.storage.local_file("") is not None:
        raise InputError(
            f"The store {root.storage.location} is local; a cache would be a second copy of it. Open "
            f"it without one."
        )
    return ShardCache(folder, root, max_bytes=max_bytes)


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
