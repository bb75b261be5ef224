"""Import of HDF5: other programs' files become stores that say what nobody told, and broken files rows."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from cache_schema import (
    FeatureIdentity,
    IdentityMismatch,
    InputError,
    open_store,
    verify_store,
)
from cache_schema.exchange.feature_source import FeatureSource
from cache_schema.exchange.hdf5_export import export_hdf5
from cache_schema.exchange.hdf5_source import Hdf5PerClip, Hdf5Rows
from cache_schema.exchange.store_import import (
    ImportReport,
    import_features,
    imported_identity,
    plan_import,
)

N, P, D = 4, 3, 6


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., ImportReport]:
    def run(source: FeatureSource, name: str = "store", **options: object) -> ImportReport:
        identity = imported_identity(source, origin="elsewhere", **options)
        return import_features(source, tmp_path / name, identity)

    return run


def reasons(report: ImportReport) -> dict[str, str]:
    return {outcome.clip_id: outcome.reason for outcome in report.failures}


def mist_file(path: Path, features: np.ndarray, ids: list[str]) -> Path:
    """As MIST's extraction writes it."""
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=features)
        file.create_dataset("ids", data=np.array([clip.encode() for clip in ids], dtype="S20"))
    return path


def test_mist(tmp_path: Path, take: Callable[..., ImportReport]) -> None:
    features = numbers(3, N, 1 + P, D)
    path = mist_file(tmp_path / "mist.h5", features, ["b", "a", "c"])
    report = take(Hdf5Rows(path, "mist"))
    assert (report.imported, report.complete) == (3, True)
    store = open_store(tmp_path / "store")
    half = features.astype(np.float16)
    np.testing.assert_array_equal(store.read_cls(["b", "a", "c"]), half[:, :, 0])
    np.testing.assert_array_equal(store.read_patches(["b", "a", "c"]), half[:, :, 1:])
    assert store.identity.source == "imported"
    assert set(store.identity.unknown) == {
        "encoder", "weights_sha256", "quick_gelu", "token_space", "preprocess", "precision",
        "frame_policy",
    }  # fmt: skip
    assert np.isnan(store.frame_times("a")).all()
    assert store.outcome("a").frame_index is None
    assert verify_store(tmp_path / "store") == []
    difference = np.abs(features.astype(np.float64) - half).max()
    assert report.rounding is not None
    assert report.rounding.max_abs == pytest.approx(difference, rel=1e-5)


@pytest.mark.parametrize("segments", [True, False], ids=["segments", "frames"])
def test_hcrn_with_ids_that_are_numbers(
    tmp_path: Path, take: Callable[..., ImportReport], segments: bool
) -> None:
    features = numbers(3, 2, 4, D)
    with h5py.File(tmp_path / "app.h5", "w") as file:
        shaped = features if segments else features.reshape(3, 8, D)
        file.create_dataset("resnet_features", data=shaped)
        file.create_dataset("ids", data=np.array([70, 3, 1001], dtype=np.int64))
    take(Hdf5Rows(tmp_path / "app.h5", "hcrn"))
    store = open_store(tmp_path / "store")
    assert store.clip_ids == ["1001", "3", "70"]
    assert (store.identity.frames, store.identity.patches) == (8, 0)
    expected = features.reshape(3, 8, D).astype(np.float16)
    np.testing.assert_array_equal(store.read_cls(["70", "3", "1001"]), expected)
    assert store.read_patches(["3"]).shape == (1, 8, 0, D)
    assert not (tmp_path / "store" / "seg-000000" / "patch").exists()
    assert verify_store(tmp_path / "store") == []


@pytest.mark.parametrize("layout", ["rows", "per-clip"])
@pytest.mark.parametrize("patches", [True, False], ids=["patches", "cls"])
def test_our_own_export_comes_back(
    filled, tmp_path: Path, take: Callable, layout: str, patches: bool
) -> None:
    export_hdf5(open_store(filled.path), tmp_path / "x.h5", layout=layout, patches=patches)
    source = (
        Hdf5Rows(tmp_path / "x.h5", "rows") if layout == "rows" else Hdf5PerClip(tmp_path / "x.h5")
    )
    report = take(source, "back")
    assert (report.imported, report.complete) == (9, True)
    store = open_store(tmp_path / "back")
    assert store.clip_ids == filled.ok
    np.testing.assert_array_equal(store.read_cls(filled.ok), filled.cls(filled.ok))
    if patches:
        np.testing.assert_array_equal(store.read_patches(filled.ok), filled.patch(filled.ok))
    for clip in filled.ok:
        times = open_store(filled.path).frame_times(clip)
        np.testing.assert_array_equal(store.frame_times(clip), times)
    assert store.identity.unknown == ()
    assert store.identity.weights_sha256 == filled.identity.weights_sha256
    assert store.identity.source == "imported"
    assert report.rounding is not None
    assert report.rounding.max_abs == 0


def test_mist_round_trip(filled, tmp_path: Path, take: Callable) -> None:
    store = open_store(filled.path)
    export_hdf5(store, tmp_path / "mist.h5", layout="mist", dtype="float32")
    with h5py.File(tmp_path / "mist.h5") as file:
        assert set(file) == {"features", "ids", "frame_time"}
        assert file["features"].shape == (9, 5, 1 + 3, 8)
        np.testing.assert_array_equal(file["features"][:, :, 0], filled.cls(filled.ok))
        assert [clip.decode() for clip in file["ids"]] == filled.ok
    take(Hdf5Rows(tmp_path / "mist.h5", "mist"), "back")
    found = open_store(tmp_path / "back").read_patches(filled.ok)
    np.testing.assert_array_equal(found, filled.patch(filled.ok))


def test_awkward_names_come_back_from_our_file_and_stay_in_others(tmp_path: Path) -> None:
    for ours in (True, False):
        path = tmp_path / f"{ours}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("100%25", data=numbers(N, D))
            if ours:
                file.attrs["layout"] = "per-clip"
        assert Hdf5PerClip(path).clip_ids == (["100%"] if ours else ["100%25"])


@pytest.mark.parametrize("kind", ["soft", "external", "virtual", "raw"])
def test_values_of_other_files_are_not_read(tmp_path: Path, kind: str) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file.create_dataset("features", data=numbers(1, N, 1 + P, D))
    (tmp_path / "raw").write_bytes(bytes(N * (1 + P) * D * 4))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("ids", data=[1])
        shape = (1, N, 1 + P, D)
        if kind == "soft":
            file["features"] = h5py.SoftLink("/ids")
        elif kind == "external":
            file["features"] = h5py.ExternalLink("secret.h5", "/features")
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape, np.float32)
            layout[...] = h5py.VirtualSource("secret.h5", "features", shape)
            file.create_virtual_dataset("features", layout)
        else:
            external = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("features", shape, np.float32, external=external)
    with pytest.raises(InputError, match=r"not followed|other files"):
        Hdf5Rows(tmp_path / "x.h5", "mist")


def test_a_damaged_chunk_is_one_failed_row(tmp_path: Path, take: Callable) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        features = file.create_dataset(
            "cls_features", data=numbers(3, N, D), chunks=(1, N, D), fletcher32=True
        )
        offset = features.id.get_chunk_info(1).byte_offset
        file.create_dataset("ids", data=["a", "b", "c"])
    content = bytearray(path.read_bytes())
    content[offset + 5] ^= 1
    path.write_bytes(content)
    report = take(Hdf5Rows(path, "rows"))
    assert (report.imported, reasons(report)) == (2, {"b": "unreadable"})


def test_an_id_that_repeats_or_cannot_be_one_is_told(tmp_path: Path, take: Callable) -> None:
    path = mist_file(tmp_path / "x.h5", numbers(4, N, 1 + P, D), ["a", "a", "b\nc", "d"])
    report = take(Hdf5Rows(path, "mist"))
    assert report.imported == 2
    assert sorted(report.refused) == ["row 1: a", "row 2: b c"]
    assert not report.complete


@pytest.mark.parametrize(
    ("layout", "names", "message"),
    [
        ("mist", {"ids": (2,)}, "has no dataset 'features'; it has: ids"),
        ("mist", {"features": (2, N, D), "ids": (2,)}, "wants 4 axes"),
        ("mist", {"features": (3, N, 4, D), "ids": (2,)}, "the first of 2"),
        ("hcrn", {"ids": (2,)}, r"has 0 datasets called \*_features"),
        (
            "hcrn",
            {"a_features": (2, N, D), "b_features": (2, N, D), "ids": (2,)},
            "a_features, b_features; name one",
        ),
        (
            "rows",
            {"cls_features": (2, N, D), "patch_features": (2, N + 1, P, D), "ids": (2,)},
            "beside features of shape",
        ),
    ],
    ids=["absent", "axes", "count", "none", "several", "contradiction"],
)
def test_other_files_are_refused(tmp_path: Path, layout: str, names: dict, message: str) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, shape in names.items():
            values = np.arange(2) if name == "ids" else numbers(*shape)
            file.create_dataset(name, data=values)
    with pytest.raises(InputError, match=message):
        Hdf5Rows(tmp_path / "x.h5", layout)


def test_no_hdf5_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as HDF5"):
        Hdf5Rows(tmp_path / "x.h5", "mist")
    with pytest.raises(InputError, match="no file"):
        Hdf5PerClip(tmp_path / "absent.h5")


def test_a_file_that_contradicts_itself_is_refused(filled, tmp_path: Path) -> None:
    export_hdf5(open_store(filled.path), tmp_path / "x.h5", layout="rows")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        told = json.loads(file.attrs["identity"])
        file.attrs["identity"] = json.dumps(told | {"dim": 9})
    with pytest.raises(InputError, match="Ask whoever wrote it"):
        imported_identity(Hdf5Rows(tmp_path / "x.h5", "rows"), origin="x")


def test_what_is_told_is_known(tmp_path: Path, take: Callable) -> None:
    path = mist_file(tmp_path / "x.h5", numbers(1, N, 1 + P, D), ["a"])
    told = {"encoder": "ViT-B-32", "token_space": "joint", "quick_gelu": True}
    identity = imported_identity(Hdf5Rows(path, "mist"), origin="x", told=told)
    assert (identity.encoder, identity.quick_gelu) == ("ViT-B-32", True)
    assert set(identity.unknown) == {
        "weights_sha256", "preprocess", "precision", "frame_policy",
    }  # fmt: skip


def test_an_import_goes_on_and_does_not_repeat(tmp_path: Path) -> None:
    clips = [f"c{number:02d}" for number in range(20)]
    path = mist_file(tmp_path / "x.h5", numbers(20, N, 1 + P, D), clips)
    source = Hdf5Rows(path, "mist")
    identity = imported_identity(source, origin="x")

    def stop(done: int, total: int) -> None:
        assert total == 20
        if done == 18:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_features(source, tmp_path / "store", identity, on_clip=stop)
    plan = plan_import(source, tmp_path / "store", identity)
    assert plan.pending == tuple(clips[16:])
    report = import_features(source, tmp_path / "store", identity)
    assert (report.imported, report.skipped) == (4, 16)
    assert open_store(tmp_path / "store").clip_ids == clips
    assert import_features(source, tmp_path / "store", identity).imported == 0


def test_another_origin_is_another_store(tmp_path: Path, take: Callable) -> None:
    path = mist_file(tmp_path / "x.h5", numbers(1, N, 1 + P, D), ["a"])
    source = Hdf5Rows(path, "mist")
    take(source)
    other = imported_identity(source, origin="somewhere else")
    with pytest.raises(IdentityMismatch, match="origin: 'somewhere else' here, 'elsewhere' there"):
        import_features(source, tmp_path / "store", other)


def test_a_plan_writes_nothing(
    tmp_path: Path, make_identity: Callable[..., FeatureIdentity]
) -> None:
    path = mist_file(tmp_path / "x.h5", numbers(2, N, 1 + P, D), ["a", "b"])
    source = Hdf5Rows(path, "mist")
    plan = plan_import(source, tmp_path / "store", imported_identity(source, origin="x"))
    assert plan.pending == ("a", "b")
    assert plan.bytes_needed > 2 * N * (1 + P) * D * 2
    assert not (tmp_path / "store").exists()
