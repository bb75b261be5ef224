"""A store is plain Zarr v3: zarr-python reads it without this project's code."""

from pathlib import Path

import numpy as np
import pytest
import zarr

from cache_schema import create_store, open_store


def test_zarr_shows_the_arrays_with_their_dimensions(filled) -> None:
    group = zarr.open_group(filled.path, mode="r")
    expected = {
        "cls": ((8, 5, 8), (1, 5, 8), (4, 5, 8), ("slot", "frame", "dim")),
        "patch": ((8, 5, 3, 8), (1, 1, 3, 8), (1, 5, 3, 8), ("slot", "frame", "patch", "dim")),
    }
    for segment in ("seg-000000", "seg-000001"):
        for name, (shape, chunks, shards, dimensions) in expected.items():
            array = group[f"{segment}/{name}"]
            assert isinstance(array, zarr.Array)
            assert (array.shape, array.chunks, array.shards) == (shape, chunks, shards)
            assert array.dtype == np.float16
            assert np.isnan(array.fill_value)
            assert array.metadata.dimension_names == dimensions
    attributes = group.attrs["videodistill"]
    assert attributes["identity"] == filled.identity.to_json()
    assert attributes["digest"] == filled.identity.digest
    assert attributes["format"] == "1"


def test_zarr_reads_what_we_wrote(filled) -> None:
    for row in open_store(filled.path).manifest().to_pylist():
        if row["status"] != "ok":
            continue
        folder = filled.path / f"seg-{row['segment']:06d}"
        patch = zarr.open_array(folder / "patch", mode="r")
        cls = zarr.open_array(folder / "cls", mode="r")
        np.testing.assert_array_equal(patch[row["slot"]], filled.patch([row["clip_id"]])[0])
        np.testing.assert_array_equal(
            patch[row["slot"], 2:4], filled.patch([row["clip_id"]])[0, 2:4]
        )
        np.testing.assert_array_equal(cls[row["slot"]], filled.cls([row["clip_id"]])[0])


def test_slots_without_a_clip_read_as_nan(filled) -> None:
    # c2 failed, so the first block has three clips and its fourth slot none.
    for name in ("cls", "patch"):
        array = zarr.open_array(filled.path / "seg-000000" / name, mode="r")
        assert np.isnan(array[3]).all()
        assert np.isfinite(array[:3]).all()


@pytest.mark.parametrize("name", ["cls", "patch"])
def test_we_write_the_bytes_that_zarr_would(filled, tmp_path: Path, name: str) -> None:
    create_store(tmp_path / "copy", filled.identity, block_slots=4, segment_slots=8)
    ours = filled.path / "seg-000000" / name
    theirs = tmp_path / "copy" / "seg-000000" / name
    source, target = zarr.open_array(ours, mode="r"), zarr.open_array(theirs, mode="r+")
    target[4:8] = source[4:8]
    files = sorted(file.name for file in theirs.glob("c.*"))
    assert files == (["c.1.0.0"] if name == "cls" else [f"c.{n}.0.0.0" for n in range(4, 8)])
    for file in files:
        assert (theirs / file).read_bytes() == (ours / file).read_bytes()


def test_our_reader_reads_shards_that_zarr_wrote(filled) -> None:
    for name in ("cls", "patch"):
        array = zarr.open_array(filled.path / "seg-000000" / name, mode="r+")
        content = array[4:8]
        for file in (filled.path / "seg-000000" / name).glob("c.[4-7]*"):
            file.unlink()
        array[4:8] = content
    store = open_store(filled.path)
    np.testing.assert_array_equal(store.read_patches(filled.ok), filled.patch(filled.ok))
    np.testing.assert_array_equal(store.read_cls(filled.ok), filled.cls(filled.ok))


def _ours(filled) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """Segment, slot, cls and patch of every clip, as our own reader gives them."""
    store = open_store(filled.path)
    rows = [row for row in store.manifest().to_pylist() if row["status"] == "ok"]
    ids = [row["clip_id"] for row in rows]
    places = [(row["segment"], row["slot"]) for row in rows]
    cls, patch = store.read_cls(ids), store.read_patches(ids)
    return [(*place, cls[n], patch[n]) for n, place in enumerate(places)]


def test_xarray_reads_what_our_reader_reads(filled) -> None:
    # zarr-python 3.2 and later need Python 3.12; on 3.11 xarray works with zarr-python 3.1.
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    for segment, slot, cls, patch in _ours(filled):
        place = filled.path / f"seg-{segment:06d}"
        with xarray.open_zarr(place, consolidated=False, zarr_format=3) as dataset:
            assert dataset["patch"].dims == ("slot", "frame", "patch", "dim")
            assert dataset["cls"].dims == ("slot", "frame", "dim")
            assert dataset["cls"].dtype == dataset["patch"].dtype == np.float16
            assert dataset["cls"].isel(slot=slot).values.tobytes() == cls.tobytes()
            chosen = dataset["patch"].isel(slot=slot, frame=[4, 1]).values
            assert chosen.tobytes() == patch[[4, 1]].tobytes()


def test_tensorstore_reads_what_our_reader_reads(filled) -> None:
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    for segment, slot, cls, patch in _ours(filled):
        for name, expected in (("cls", cls), ("patch", patch)):
            path = filled.path / f"seg-{segment:06d}" / name
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
            array = tensorstore.open(spec, open=True, read=True).result()
            assert array.dtype.numpy_dtype == np.float16
            assert array[slot].read().result().tobytes() == expected.tobytes()
            assert array[slot, 2:4].read().result().tobytes() == expected[2:4].tobytes()


def test_xarray_and_tensorstore_find_a_flipped_bit(filled) -> None:
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    folder = filled.path / "seg-000000"
    file = folder / "patch" / "c.1.0.0.0"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/patch/"}}
    with pytest.raises(ValueError, match="Digest mismatch"):
        tensorstore.open(spec, open=True, read=True).result()[1].read().result()
    with (
        xarray.open_zarr(folder, consolidated=False, zarr_format=3) as dataset,
        pytest.raises(ValueError, match="checksum"),
    ):
        dataset["patch"].isel(slot=1).load()
