"""Import of .npy folders: other programs' files become stores that say what nobody told, and broken files rows."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import (
    ClipMissing,
    FeatureIdentity,
    InputError,
    open_store,
)
from cache_schema.exchange.feature_source import FeatureSource, midpoints
from cache_schema.exchange.npy_source import NpyFolder
from cache_schema.exchange.store_import import (
    ImportReport,
    import_features,
    imported_identity,
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


def _frames_as_they_are(tmp_path: Path) -> FeatureIdentity:
    """The identity of clips of N frames, of which none are chosen."""
    (tmp_path / "alike").mkdir()
    np.save(tmp_path / "alike" / "x.npy", numbers(N, D))
    return imported_identity(NpyFolder(tmp_path / "alike", "clip-video-encode"), origin="x")


def test_clip_video_encode(tmp_path: Path, take: Callable) -> None:
    folder = tmp_path / "cve"
    folder.mkdir()
    for number, clip in enumerate(["b", "a", "part-0/c"]):
        (folder / clip).parent.mkdir(exist_ok=True)
        np.save(folder / f"{clip}.npy", numbers(N, D, seed=number, dtype="float16"))
    (folder / "a.json").write_text(json.dumps({"caption_id": 7, "url": "x"}))
    report = take(NpyFolder(folder, "clip-video-encode"))
    assert (report.imported, report.complete) == (3, True)
    store = open_store(tmp_path / "store")
    assert store.clip_ids == ["a", "b", "part-0/c"]
    np.testing.assert_array_equal(store.read_cls(["b"])[0], numbers(N, D, dtype="float16"))
    assert store.outcome("a").flags == ('metadata: {"caption_id": 7, "url": "x"}',)
    assert store.outcome("part-0/c").source_path == "part-0/c.npy"
    assert len(store.outcome("b").source_digest) == 32


def test_video_features(tmp_path: Path, take: Callable) -> None:
    folder = tmp_path / "vf"
    folder.mkdir()
    features = numbers(9, D, dtype="float64")
    np.save(folder / "v_clip.npy", features)
    np.save(folder / "v_fps.npy", np.array(2.5))
    np.save(folder / "v_timestamps_ms.npy", np.arange(9) * 400.0)
    take(NpyFolder(folder, "video-features"), frames=N)
    store = open_store(tmp_path / "store")
    chosen = [1, 3, 5, 7]
    np.testing.assert_array_equal(store.read_cls(["v"])[0], features[chosen].astype(np.float16))
    np.testing.assert_allclose(store.frame_times("v"), np.array(chosen) * 0.4)
    assert store.outcome("v").flags == ("extracted at 2.5 frames a second",)
    assert store.identity.frame_policy == "unknown-midpoint-1"
    assert "frame_policy" in store.identity.unknown


def test_frames_beyond_a_clips_end_are_told_by_repeats(tmp_path: Path, take: Callable) -> None:
    (tmp_path / "in").mkdir()
    for clip, length in (("short", 2), ("long", 11)):
        np.save(tmp_path / "in" / f"{clip}.npy", numbers(length, D))
    source = NpyFolder(tmp_path / "in", "clip-video-encode")
    with pytest.raises(InputError, match="--frames N"):
        imported_identity(source, origin="x")
    take(source, frames=N)
    store = open_store(tmp_path / "store")
    assert store.outcome("short").distinct_frames == 2
    found = store.read_cls(["short"])[0]
    np.testing.assert_array_equal(found, numbers(2, D)[[0, 0, 1, 1]].astype(np.float16))


@pytest.mark.parametrize(("had", "wanted"), [(9, 4), (100, 100), (2, 5), (1, 3), (7, 6)])
def test_midpoints_are_the_middles_of_equal_parts(had: int, wanted: int) -> None:
    expected = [int((n + 0.5) / wanted * had + 1e-9) for n in range(wanted)]
    assert midpoints(had, wanted).tolist() == expected


def test_broken_files_become_rows_with_reasons(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = numbers(N, D)
    np.save(folder / "a-good.npy", good)
    np.save(folder / "nan.npy", np.where(good > 1, np.nan, good))
    np.save(folder / "huge.npy", good * 1e6)
    np.save(folder / "wide.npy", numbers(N, D + 1))
    np.save(folder / "long.npy", numbers(N + 1, D))
    np.save(folder / "flat.npy", numbers(D))
    np.save(folder / "whole.npy", np.zeros((N, D), dtype=np.int64))
    np.save(folder / "empty.npy", np.zeros((0, D), dtype=np.float32))
    np.save(folder / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (folder / "pickle.npy").write_bytes(pickle.dumps(good))
    (folder / "text.npy").write_text("no array")
    whole = (folder / "a-good.npy").read_bytes()
    (folder / "cut.npy").write_bytes(whole[:-7])
    report = import_features(
        NpyFolder(folder, "clip-video-encode"), tmp_path / "store", _frames_as_they_are(tmp_path)
    )
    assert report.imported == 1
    assert reasons(report) == {
        "nan": "nonfinite",
        "huge": "overflow",
        "wide": "wrong_shape",
        "long": "wrong_shape",
        "flat": "wrong_shape",
        "whole": "wrong_type",
        "empty": "empty",
        "object": "object_array",
        "pickle": "not_npy",
        "text": "not_npy",
        "cut": "unreadable",
    }
    assert all(outcome.detail for outcome in report.failures)
    with pytest.raises(ClipMissing, match="object_array"):
        open_store(tmp_path / "store").read_cls(["object"])


def test_pickles_are_never_run(tmp_path: Path, take: Callable) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", numbers(N, D))
    np.save(tmp_path / "in" / "bomb.npy", np.array([Bomb()]), allow_pickle=True)
    (tmp_path / "in" / "raw.npy").write_bytes(pickle.dumps(Bomb()))
    report = take(NpyFolder(tmp_path / "in", "clip-video-encode"))
    assert set(reasons(report)) == {"bomb", "raw"}
    assert not (tmp_path / "ran").exists()


def test_a_header_that_promises_too_much_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", numbers(N, D))
    with (tmp_path / "in" / "lie.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, D)}
        np.lib.format.write_array_header_1_0(file, header)
    identity = imported_identity(
        NpyFolder(tmp_path / "in", "clip-video-encode"), origin="x", frames=N
    )
    source = NpyFolder(tmp_path / "in", "clip-video-encode")
    report = import_features(source, tmp_path / "store", identity)
    assert reasons(report) == {"lie": "too_large"}


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path, take: Callable) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "secret.npy", numbers(N, D))
    np.save(tmp_path / "in" / "a.npy", numbers(N, D))
    (tmp_path / "in" / "b.npy").symlink_to(tmp_path / "secret.npy")
    report = take(NpyFolder(tmp_path / "in", "clip-video-encode"))
    assert dict(report.refused) == {"b.npy": "is a link that leaves the folder"}


def test_times_that_contradict_the_frames_fail_the_clip(tmp_path: Path, take: Callable) -> None:
    (tmp_path / "in").mkdir()
    for clip, times in (("a", np.arange(N)), ("few", np.arange(3)), ("back", -np.arange(N))):
        np.save(tmp_path / "in" / f"{clip}_clip.npy", numbers(N, D))
        np.save(tmp_path / "in" / f"{clip}_timestamps_ms.npy", times)
    report = take(NpyFolder(tmp_path / "in", "video-features"))
    assert reasons(report) == {"few": "wrong_shape", "back": "wrong_times"}


@pytest.mark.parametrize("files", [[], ["a.txt"]], ids=["nothing", "others"])
def test_a_folder_without_features_is_refused(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"holds no files called <id>\.npy"):
        NpyFolder(tmp_path, "clip-video-encode")
