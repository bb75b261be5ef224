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
