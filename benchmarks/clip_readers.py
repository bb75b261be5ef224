"""The same features in every container that people use, and one way to read a clip out of each.

The reference is a copy out of a np.memmap that stays open, of one uncompressed file: no format can be
read faster through the page cache. Each contender reads as its documentation recommends for this; into
the buffer that is reused wherever its interface can.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import zarr

from cache_schema import (
    ClipOutcome,
    FeatureIdentity,
    Preprocess,
    Status,
    StoreWriter,
    create_store,
    open_store,
)

CHOSEN = 16


@dataclass(frozen=True, kw_only=True)
class ClipSize:
    """Shape of a clip's patch features."""

    frames: int = 100
    patches: int = 49
    dim: int = 768

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.frames, self.patches, self.dim

    @property
    def bytes(self) -> int:
        return 2 * self.frames * self.patches * self.dim


@dataclass(frozen=True, kw_only=True)
class Files:
    """Where the features were written."""

    size: ClipSize
    names: list[str]
    store: Path
    flat: np.memmap
    hdf5: Path
    npy: list[Path]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to read one clip: called with the clip's place in the list."""

    name: str
    reference: str
    limit: float | None
    read: Callable[[int], object]
    slow: bool = False
    """Whether it takes so long that it reads fewer clips, after the others."""


def write_files(folder: Path, clips: int, size: ClipSize) -> Files:
    """Writes the same random features into a store, one flat file, one HDF5 file, and .npy files."""
    names = [f"clip-{number:04d}" for number in range(clips)]
    shape = (clips, *size.shape)
    flat = np.memmap(folder / "flat", mode="w+", dtype=np.float16, shape=shape)
    rng = np.random.default_rng(0)
    (folder / "npy").mkdir()
    npy = [folder / "npy" / f"{name}.npy" for name in names]
    with h5py.File(folder / "clips.h5", "w") as hdf5:
        dataset = hdf5.create_dataset("patch_features", shape, dtype=np.float16)
        for place, file in enumerate(npy):
            flat[place] = rng.standard_normal(size.shape, dtype=np.float32)
            dataset[place] = flat[place]
            np.save(file, flat[place])
    flat.flush()
    write_store(folder / "store", names, flat, size)
    return Files(
        size=size,
        names=names,
        store=folder / "store",
        flat=flat,
        hdf5=folder / "clips.h5",
        npy=npy,
    )


def write_store(path: Path, names: list[str], flat: np.memmap, size: ClipSize) -> None:
    identity = FeatureIdentity(
        encoder="benchmark",
        weights_sha256="0" * 64,
        quick_gelu=False,
        token_space="trunk",  # noqa: S106 -- no password
        dim=size.dim,
        patches=size.patches,
        preprocess=Preprocess(
            image_size=224,
            resize_mode="shortest",
            interpolation="bicubic",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        ),
        frames=size.frames,
        precision="fp32",
    )
    create_store(path, identity)
    with StoreWriter(path, identity) as writer:
        for done in range(0, len(names), writer.block_slots):
            claim = writer.claim(names[done : done + writer.block_slots])
            if claim is None:
                raise SystemExit("The new store's clips are claimed by someone else.")
            patch = np.array(flat[done : done + len(claim.clip_ids)])
            outcomes = [
                ClipOutcome(
                    clip_id=clip_id,
                    status=Status.OK,
                    frame_index=np.arange(size.frames, dtype=np.int32),
                    frame_time=np.arange(size.frames, dtype=np.float64),
                    distinct_frames=size.frames,
                )
                for clip_id in claim.clip_ids
            ]
            writer.write_block(claim, outcomes, patch[:, :, 0], patch)
        writer.compact()


def contenders(files: Files, *, tensors: bool = True) -> list[Contender]:
    """Everything that takes part, each with the reference that it is compared with.

    Args:
        files: what ``write_files`` wrote.
        tensors: whether tensorstore takes part; a process that has used it can no longer fork.

    Raises:
        AssertionError: one of them reads something else than was written.
    """
    chosen = np.sort(np.random.default_rng(1).choice(files.size.frames, CHOSEN, replace=False))
    readers = [*_whole_clips(files, tensors), *_some_frames(files, chosen, tensors)]
    for reader in readers:
        for clip in (0, len(files.names) - 1):
            found = np.asarray(reader.read(clip)).reshape(-1, *files.size.shape[1:])
            expected = files.flat[clip] if len(found) != CHOSEN else files.flat[clip, chosen]
            np.testing.assert_array_equal(found, expected, err_msg=reader.name)
    return readers


def _whole_clips(files: Files, tensors: bool) -> Iterator[Contender]:
    names, flat, out = files.names, files.flat, np.empty(files.size.shape, np.float16)
    checked, unchecked = open_store(files.store), open_store(files.store, check=False)
    reference = "memmap, whole clip"

    def add(
        name: str, read: Callable[[int], object], limit: float | None = None, *, slow: bool = False
    ) -> Contender:
        return Contender(
            name=f"{name}, whole clip", reference=reference, limit=limit, read=read, slow=slow
        )

    def copy(clip: int) -> np.ndarray:
        np.copyto(out, flat[clip])
        return out

    yield add("memmap", copy)
    yield add(
        "store, no checksums", lambda i: unchecked.read_patches([names[i]], out=out[None]), 1.5
    )
    yield add("store, crc32c", lambda i: checked.read_patches([names[i]], out=out[None]), 2.5)
    arrays, slots = _zarr_arrays(files)
    dataset = h5py.File(files.hdf5)["patch_features"]

    def read_hdf5(clip: int) -> np.ndarray:
        dataset.read_direct(out, np.s_[clip])
        return out

    yield add("h5py, contiguous", read_hdf5)
    yield add(".npy file", lambda i: np.load(files.npy[i]))
    if tensors:
        opened = _tensors(files)
        yield add("tensorstore", lambda i: opened[i][slots[i]].read().result(), slow=True)
    yield add("zarr-python", lambda i: arrays[i][slots[i]], slow=True)


def _some_frames(files: Files, chosen: np.ndarray, tensors: bool) -> Iterator[Contender]:
    names, flat = files.names, files.flat
    out = np.empty((len(chosen), *files.size.shape[1:]), np.float16)
    checked, unchecked = open_store(files.store), open_store(files.store, check=False)
    some = f"{len(chosen)} of {files.size.frames} frames"
    frames = chosen[None]

    def add(
        name: str, read: Callable[[int], object], limit: float | None = None, *, slow: bool = False
    ) -> Contender:
        return Contender(
            name=f"{name}, {some}", reference=f"memmap, {some}", limit=limit, read=read, slow=slow
        )

    yield add("memmap", lambda i: np.take(flat[i], chosen, axis=0, out=out, mode="clip"))
    yield add(
        "store, no checksums",
        lambda i: unchecked.read_patches([names[i]], frames, out=out[None]),
        2.0,
    )
    yield add("store, crc32c", lambda i: checked.read_patches([names[i]], frames, out=out[None]))
    arrays, slots = _zarr_arrays(files)
    dataset = h5py.File(files.hdf5)["patch_features"]
    yield add("h5py, contiguous", lambda i: dataset[i, chosen], slow=True)
    yield add(".npy file by memmap", lambda i: np.load(files.npy[i], mmap_mode="r")[chosen])
    if tensors:
        opened = _tensors(files)
        yield add("tensorstore", lambda i: opened[i][slots[i], chosen].read().result(), slow=True)
    yield add("zarr-python by oindex", lambda i: arrays[i].oindex[slots[i], chosen], slow=True)


def _places(files: Files) -> list[tuple[str, int]]:
    rows = open_store(files.store).rows(files.names, ["segment", "slot"]).to_pylist()
    return [(f"seg-{row['segment']:06d}/patch", row["slot"]) for row in rows]


def _zarr_arrays(files: Files) -> tuple[list[zarr.Array], list[int]]:
    group = zarr.open_group(files.store, mode="r")
    places = _places(files)
    opened = {array: group[array] for array, _ in places}
    return [opened[array] for array, _ in places], [slot for _, slot in places]


def _tensors(files: Files) -> list:
    # Imported here: it is for this benchmark alone.
    import tensorstore

    def open_array(array: str) -> object:
        place = {"driver": "file", "path": f"{files.store / array}/"}
        return tensorstore.open({"driver": "zarr3", "kvstore": place}).result()

    places = _places(files)
    opened = {array: open_array(array) for array in {array for array, _ in places}}
    return [opened[array] for array, _ in places]
