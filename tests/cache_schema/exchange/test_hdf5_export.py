"""Export to HDF5: plain h5py finds the store's features, byte for byte, and where they come from."""

import json
import shutil
import signal
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_schema import (
    ClipMissing,
    CorruptStore,
    FeatureIdentity,
    FeatureStore,
    InputError,
    StoreWriter,
    create_store,
    open_store,
)
from cache_schema.exchange.hdf5_export import dataset_name, export_bytes, export_hdf5

FRAMES, PATCHES, DIM = 5, 3, 8
AWKWARD = [
    ".",
    "..",
    "./a",
    "/root",
    "a/b/c",
    "a/b",
    "a%2Fb",
    "100%",
    "-rf",
    "--layout",
    " padded ",
    "Ключ",
    "クリップ/一",
    "e\u0301",
    "\u00e9",
    "🎬",
    "/" * 512,
    "🎬" * 512,
]


@pytest.fixture
def make_store(
    tmp_path: Path,
    make_identity: Callable[..., FeatureIdentity],
    ok_outcome: Callable,
    features: Callable,
) -> Callable[..., FeatureStore]:
    def make(clip_ids: list[str], **changes: int) -> FeatureStore:
        identity, path = make_identity(**changes), tmp_path / "made"
        create_store(path, identity, block_slots=4, segment_slots=8)
        with StoreWriter(path, identity) as writer:
            for start in range(0, len(clip_ids), 4):
                claim = writer.claim(clip_ids[start : start + 4])
                assert claim is not None
                pairs = [features(clip_id, identity) for clip_id in claim.clip_ids]
                outcomes = [
                    ok_outcome(clip_id, identity.frames, source_path="videos/a.mp4")
                    for clip_id in claim.clip_ids
                ]
                cls, patch = (np.stack(kind) for kind in zip(*pairs, strict=True))
                writer.write_block(claim, outcomes, cls, patch)
            writer.compact()
        return open_store(path)

    return make


def _left(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("patches", [False, True], ids=["cls", "patches"])
def test_rows_are_the_stores_features(filled, tmp_path: Path, dtype: str, patches: bool) -> None:
    store, path = open_store(filled.path), tmp_path / "new" / "rows.h5"
    assert export_hdf5(store, path, layout="rows", patches=patches, dtype=dtype) == 9
    with h5py.File(path) as file:
        names = {"cls_features", "frame_time", "ids"}
        assert set(file) == (names | {"patch_features"} if patches else names)
        assert file["ids"].asstr()[...].tolist() == filled.ok
        cls = file["cls_features"]
        assert (cls.shape, cls.dtype) == ((9, FRAMES, DIM), np.dtype(dtype))
        assert cls[...].tobytes() == filled.cls(filled.ok).astype(dtype).tobytes()
        np.testing.assert_array_equal(file["frame_time"][8], store.frame_times("c9"))
        if patches:
            patch = file["patch_features"]
            assert (patch.shape, patch.dtype) == ((9, FRAMES, PATCHES, DIM), np.dtype(dtype))
            assert patch[...].tobytes() == filled.patch(filled.ok).astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("patches", [False, True], ids=["cls", "patches"])
def test_every_clip_is_a_dataset(filled, tmp_path: Path, dtype: str, patches: bool) -> None:
    store, path = open_store(filled.path), tmp_path / "clips.h5"
    assert export_hdf5(store, path, layout="per-clip", patches=patches, dtype=dtype) == 9
    with h5py.File(path) as file:
        assert sorted(file) == filled.ok
        for clip_id in filled.ok:
            expected = filled.cls([clip_id])[0]
            if patches:
                expected = np.concatenate([expected[:, None], filled.patch([clip_id])[0]], axis=1)
            dataset = file[clip_id]
            assert (dataset.shape, dataset.dtype) == (expected.shape, np.dtype(dtype))
            assert dataset[...].tobytes() == expected.astype(dtype).tobytes()
            times = dataset.attrs["frame_time"]
            np.testing.assert_array_equal(times, store.frame_times(clip_id))


@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_the_file_says_where_its_features_come_from(filled, tmp_path: Path, layout: str) -> None:
    export_hdf5(open_store(filled.path), tmp_path / "x.h5", layout=layout)
    with h5py.File(tmp_path / "x.h5") as file:
        found = dict(file.attrs)
    identity = FeatureIdentity.from_json(json.loads(found.pop("identity")))
    assert identity == filled.identity
    assert found == {
        "digest": filled.identity.digest,
        "manifest_version": 1,
        "store_format": "1",
        "layout": layout,
    }


@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_awkward_ids_come_back(make_store: Callable, tmp_path: Path, layout: str) -> None:
    store, path = make_store(AWKWARD), tmp_path / "x.h5"
    export_hdf5(store, path, layout=layout, clip_ids=AWKWARD)
    with h5py.File(path) as file:
        if layout == "rows":
            found = dict(zip(file["ids"].asstr()[...], file["cls_features"][...], strict=True))
        else:
            assert all(isinstance(entry, h5py.Dataset) for entry in file.values())
            found = {unquote(name): file[name][...] for name in file}
    assert sorted(found) == sorted(AWKWARD)
    for clip_id in AWKWARD:
        np.testing.assert_array_equal(found[clip_id], store.read_cls([clip_id])[0])


@given(st.text(st.sampled_from("./%2F5Ea é"), min_size=1) | st.text(min_size=1))
def test_a_dataset_name_is_one_link_and_gives_the_id_back(clip_id: str) -> None:
    name = dataset_name(clip_id)
    assert "/" not in name
    assert name != "."
    assert unquote(name) == clip_id


@pytest.mark.parametrize("clip_ids", [["c7", "c0", "c4"], ["c9"]], ids=["three", "one"])
@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_chosen_clips_in_the_order_asked(
    filled, tmp_path: Path, layout: str, clip_ids: list[str]
) -> None:
    reported: list[str] = []
    path = tmp_path / "x.h5"
    count = export_hdf5(
        open_store(filled.path),
        path,
        layout=layout,
        clip_ids=iter(clip_ids),
        patches=True,
        on_clip=reported.append,
    )
    assert (count, reported) == (len(clip_ids), clip_ids)
    with h5py.File(path) as file:
        if layout == "rows":
            assert file["ids"].asstr()[...].tolist() == clip_ids
            np.testing.assert_array_equal(file["patch_features"], filled.patch(clip_ids))
        else:
            assert sorted(file) == sorted(clip_ids)


@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_frame_times_beyond_a_small_attribute(
    make_store: Callable, tmp_path: Path, layout: str
) -> None:
    """64 KiB is what an attribute of HDF5's first format holds: 8192 times."""
    store = make_store(["long"], frames=9000, patches=1, dim=2)
    export_hdf5(store, tmp_path / "x.h5", layout=layout, patches=True)
    with h5py.File(tmp_path / "x.h5") as file:
        rows = layout == "rows"
        times = file["frame_time"][0] if rows else file["long"].attrs["frame_time"]
        np.testing.assert_array_equal(times, store.frame_times("long"))


@pytest.mark.parametrize("occupant", ["file", "folder", "dangling-link"])
def test_nothing_is_overwritten(filled, tmp_path: Path, occupant: str) -> None:
    path = tmp_path / "taken.h5"
    if occupant == "file":
        path.write_bytes(b"mine")
    elif occupant == "folder":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    before = path.lstat()
    with pytest.raises(InputError, match="overwrites nothing"):
        export_hdf5(open_store(filled.path), path, layout="rows")
    assert path.lstat() == before
    assert _left(tmp_path) == ["store", "taken.h5"]


def test_a_name_taken_meanwhile_is_not_overwritten(filled, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with pytest.raises(InputError, match="overwrites nothing"):
        export_hdf5(
            open_store(filled.path),
            path,
            layout="rows",
            on_clip=lambda clip_id: path.write_text(clip_id) and None,
        )
    assert path.read_text() == "c9"
    assert _left(tmp_path) == ["store", "x.h5"]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"clip_ids": ["c1", "c2", "c99"]}, ClipMissing, "2 of 3 .* the first is 'c2'"),
        ({"clip_ids": ["c1", "c3", "c1"]}, InputError, "'c1' is to be exported 2 times"),
        ({"clip_ids": []}, InputError, "No clips to export: 9 clips"),
        ({"layout": "columns"}, InputError, "'columns', not one of rows, per-clip"),
        ({"dtype": "int8"}, InputError, "'int8', not one of float16, float32"),
    ],
    ids=["missing", "twice", "none", "layout", "dtype"],
)
def test_what_cannot_be_exported_is_refused_first(
    filled, tmp_path: Path, changes: dict[str, object], error: type[Exception], match: str
) -> None:
    store, arguments = open_store(filled.path), {"layout": "rows", **changes}
    with pytest.raises(error, match=match):
        export_bytes(store, **arguments)
    with pytest.raises(error, match=match):
        export_hdf5(store, tmp_path / "x.h5", **arguments)
    assert _left(tmp_path) == ["store"]


def test_an_empty_store_has_nothing_to_export(empty_store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No clips to export: 0 clips"):
        export_hdf5(open_store(empty_store), tmp_path / "x.h5", layout="rows")


def test_a_path_within_the_store_is_refused(filled) -> None:
    before = _left(filled.path)
    with pytest.raises(InputError, match="lies within the store"):
        export_hdf5(open_store(filled.path), filled.path / "new" / "x.h5", layout="rows")
    assert _left(filled.path) == before


def test_a_full_disk_is_refused_first(
    filled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(filled.path)
    needed = export_bytes(store, layout="rows", patches=True)
    usage = type(shutil.disk_usage(tmp_path))(10**12, 10**12 - needed + 1, needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(InputError, match=f"needs {needed:,} bytes"):
        export_hdf5(store, tmp_path / "x.h5", layout="rows", patches=True)
    assert export_hdf5(store, tmp_path / "x.h5", layout="rows") == 9


@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_a_damaged_store_leaves_no_file(filled, tmp_path: Path, layout: str) -> None:
    damaged = filled.path / "seg-000000" / "patch" / "c.5.0.0.0"
    content = bytearray(damaged.read_bytes())
    content[7] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(CorruptStore):
        export_hdf5(open_store(filled.path), tmp_path / "x.h5", layout=layout, patches=True)
    assert _left(tmp_path) == ["store"]


KILLED = """
import os, signal, sys
from cache_schema import open_store
from cache_schema.exchange.hdf5_export import export_hdf5

def stop(clip_id):
    if clip_id == "c4":
        os.kill(os.getpid(), signal.SIGKILL)

export_hdf5(open_store(sys.argv[1]), sys.argv[2], layout=sys.argv[3], on_clip=stop)
"""


@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_a_killed_export_leaves_no_half_file(
    filled, tmp_path: Path, run_python: Callable[..., subprocess.Popen[str]], layout: str
) -> None:
    path = tmp_path / "out" / "x.h5"
    with run_python(KILLED, filled.path, path, layout) as process:
        assert process.wait(60) == -signal.SIGKILL
    (left,) = _left(path.parent)
    assert left.startswith(".tmp-x.h5-")
    assert export_hdf5(open_store(filled.path), path, layout=layout) == 9


def test_a_flipped_bit_of_the_file_is_found_on_reading(filled, tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    export_hdf5(open_store(filled.path), path, layout="rows")
    content = path.read_bytes()
    at = content.index(filled.cls(["c5"]).tobytes()) + 11
    path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["cls_features"][3], filled.cls(["c4"])[0])
        with pytest.raises(OSError, match="filter"):
            file["cls_features"][4]


@pytest.mark.parametrize("patches", [False, True], ids=["cls", "patches"])
@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_the_size_is_known_before(
    make_store: Callable, tmp_path: Path, layout: str, patches: bool
) -> None:
    store = make_store([f"c{number:02d}" for number in range(20)], frames=30, patches=40, dim=64)
    for dtype in ("float16", "float32"):
        path = tmp_path / f"{dtype}.h5"
        expected = export_bytes(store, layout=layout, patches=patches, dtype=dtype)
        export_hdf5(store, path, layout=layout, patches=patches, dtype=dtype)
        assert path.stat().st_size <= expected
        if patches:
            assert expected <= 1.05 * path.stat().st_size


def test_large_clips_are_cut_into_even_chunks(make_store: Callable, tmp_path: Path) -> None:
    """1 MiB takes 4 of these frames; 6 of them in chunks of 4 would be stored as 8."""
    store = make_store(["a"], frames=6, patches=256, dim=512)
    export_hdf5(store, tmp_path / "x.h5", layout="rows", patches=True)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["patch_features"].chunks == (1, 3, 256, 512)
        np.testing.assert_array_equal(file["patch_features"], store.read_patches(["a"]))


@pytest.mark.parametrize("layout", ["rows", "per-clip"])
def test_memory_holds_a_clip_and_not_the_store(
    make_store: Callable, tmp_path: Path, layout: str
) -> None:
    store = make_store([f"c{number:02d}" for number in range(24)], frames=16, patches=64, dim=128)
    clip_bytes = 16 * 65 * 128 * 2
    tracemalloc.start()
    try:
        export_hdf5(store, tmp_path / "x.h5", layout=layout, patches=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert clip_bytes < peak < 6 * clip_bytes


def test_a_store_is_read_without_h5py(
    filled, run_python: Callable[..., subprocess.Popen[str]]
) -> None:
    script = (
        "import sys; sys.modules['h5py'] = None\n"
        "from cache_schema import open_store; print(len(open_store(sys.argv[1])))"
    )
    with run_python(script, filled.path) as process:
        assert process.communicate(timeout=60)[0] == "9\n"


def test_hcrn_gets_its_names_and_numbers(make_store: Callable, tmp_path: Path) -> None:
    store = make_store(["70", "3", "1001"])
    export_hdf5(store, tmp_path / "app.h5", layout="rows", name="resnet", numeric_ids=True)
    with h5py.File(tmp_path / "app.h5") as file:
        ids = file["ids"][()]
        assert ids.dtype == np.int64
        # As HCRN looks a video up.
        row = {str(number): place for place, number in enumerate(ids)}["70"]
        np.testing.assert_array_equal(file["resnet_features"][row], store.read_cls(["70"])[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numeric_ids": True}, "2 of 3 ids are no whole numbers, the first is '007'"),
        ({"name": "../x"}, "cannot name CLS features"),
        ({"name": "patch"}, "cannot name CLS features"),
    ],
    ids=["words", "path", "taken"],
)
def test_names_and_numbers_that_do_not_fit_are_refused(
    make_store: Callable, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    store = make_store(["007", "12", "a1"])
    with pytest.raises(InputError, match=message):
        export_hdf5(store, tmp_path / "x.h5", layout="rows", **options)
