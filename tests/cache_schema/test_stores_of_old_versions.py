"""Stores written by old versions are read for ever; a format that is no longer read says so."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import (
    ClipMissing,
    FeatureIdentity,
    StoreOlder,
    StoreWriter,
    open_store,
    verify_store,
)
from cache_schema.store_root import read_root

STORES = Path(__file__).parent / "stores"


def _value(clip_id: str, *shape: int) -> np.ndarray:
    count = np.arange(np.prod(shape)).reshape(shape) / 64
    return (ord(clip_id[0]) - ord("a") + 1 + count).astype(np.float16)


@pytest.fixture
def format_1(tmp_path: Path) -> Path:
    # A copy, so that no test can change what the first version wrote.
    return Path(shutil.copytree(STORES / "format-1", tmp_path / "store"))


def _digest(store: Path, *, manifest: bool) -> str:
    digest = hashlib.sha256()
    for file in sorted(store.rglob("*")):
        if file.is_file() and (file.parent.name == "manifest") == manifest:
            digest.update(file.relative_to(STORES).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (False, "d02fcd07cb95fb42e28b095d673704773f9fa51ff9ae2706bd74e6d31afd9d71"),
        (True, "484b06ab1914e64b121dd71d3811d6536ea298bf3765c59eb9387dcc354e038c"),
    ],
    ids=["features-and-records", "manifest"],
)
def test_format_1_is_unchanged_since_it_was_written(manifest: bool, expected: str) -> None:
    assert _digest(STORES / "format-1", manifest=manifest) == expected


def test_format_1_is_read(format_1: Path) -> None:
    store = open_store(format_1)
    assert (store.version, store.clip_ids) == (1, ["a", "b", "c"])
    assert store.identity.name == "vit-b-32-031f34aaed84"
    for clip_id in store.clip_ids:
        np.testing.assert_array_equal(store.read_cls([clip_id])[0], _value(clip_id, 3, 4))
        patch = _value(clip_id, 3, 2, 4)
        np.testing.assert_array_equal(store.read_patches([clip_id])[0], patch)
        np.testing.assert_array_equal(store.read_patches([clip_id], [[2, 0]])[0], patch[[2, 0]])
    np.testing.assert_array_equal(store.frame_times("b"), np.array([0.5, 1.5, 2.5]) / 3)
    outcome = store.outcome("b")
    assert outcome.frame_index.tolist() == [4, 12, 20]
    assert outcome.flags == ("decoded 24 of 25 declared frames",)
    assert outcome.source_path == "videos/b.mp4"
    with pytest.raises(ClipMissing, match="truncated: moov atom not found"):
        store.read_cls(["failed"])
    assert verify_store(format_1) == []


def test_format_1_is_written_on(
    format_1: Path, write_clips_of: Callable[..., None], features: Callable
) -> None:
    identity: FeatureIdentity = open_store(format_1).identity
    with StoreWriter(format_1, identity) as writer:
        assert writer.pending(["a", "failed", "new"], retry_failed=True) == ["failed", "new"]
        write_clips_of(writer, ["failed", "new"])
        assert writer.compact() == 2
    store = open_store(format_1)
    assert store.clip_ids == ["a", "b", "c", "failed", "new"]
    np.testing.assert_array_equal(store.read_patches(["new"])[0], features("new", identity)[1])
    np.testing.assert_array_equal(store.read_cls(["a"])[0], _value("a", 3, 4))
    assert verify_store(format_1) == []


def test_a_manifest_of_one_file_is_told_to_be_compacted(format_1: Path) -> None:
    shutil.rmtree(format_1 / "manifest")
    shutil.copytree(STORES / "earlier-manifest", format_1 / "manifest")
    for spoil in ("nothing", "CURRENT"):
        if spoil == "CURRENT":
            (format_1 / "manifest" / "CURRENT").unlink()
        with pytest.raises(StoreOlder, match=f"videodistill store compact {format_1}"):
            open_store(format_1)
    (finding,) = verify_store(format_1)
    assert (finding.code, finding.severity) == ("manifest", "error")
    identity: FeatureIdentity = read_root(format_1).identity
    with StoreWriter(format_1, identity) as writer:
        assert writer.pending(["a", "failed", "new"]) == ["new"]
        # A number that no reader of the earlier manifest has seen.
        assert writer.compact() == 2
    assert open_store(format_1).clip_ids == ["a", "b", "c"]
    assert verify_store(format_1) == []
