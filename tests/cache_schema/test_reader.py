"""Reading: the same numbers as a plain array, whatever is asked for, wherever it is asked."""

import os
import pickle
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache_schema import (
    ClipMissing,
    FeatureIdentity,
    InputError,
    StoreWriter,
    create_store,
    open_store,
)

FRAMES, PATCHES, DIM = 5, 3, 8


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)
@given(data=st.data())
def test_reading_equals_indexing_an_array(filled, data: st.DataObject) -> None:
    clip_ids = data.draw(st.lists(st.sampled_from(filled.ok), max_size=6))
    count = data.draw(st.integers(0, 9))
    rows = st.lists(st.integers(0, FRAMES - 1), min_size=count, max_size=count)
    drawn = [data.draw(rows) for _ in clip_ids]
    frames = np.array(drawn, dtype=np.int16).reshape(len(clip_ids), count)
    store = open_store(filled.path, check=data.draw(st.booleans()))
    if not clip_ids:
        assert store.read_patches([]).shape == (0, FRAMES, PATCHES, DIM)
        assert store.read_cls([]).shape == (0, FRAMES, DIM)
        return
    patch, cls = filled.patch(clip_ids), filled.cls(clip_ids)
    np.testing.assert_array_equal(store.read_patches(clip_ids), patch)
    np.testing.assert_array_equal(store.read_cls(clip_ids), cls)
    chosen = np.stack([patch[row][frames[row]] for row in range(len(clip_ids))])
    np.testing.assert_array_equal(store.read_patches(clip_ids, frames), chosen)


@pytest.mark.parametrize("frames", [1, 2, 511, 512, 513, 1030])
def test_clips_longer_than_one_vectored_read(
    tmp_path: Path,
    make_identity: Callable,
    write_clips_of: Callable,
    features: Callable,
    frames: int,
) -> None:
    identity = make_identity(frames=frames, patches=1, dim=2)
    create_store(tmp_path / "store", identity, block_slots=2, segment_slots=2)
    with StoreWriter(tmp_path / "store", identity) as writer:
        write_clips_of(writer, ["a", "b", "c"])
        writer.compact()
    store = open_store(tmp_path / "store")
    for clip_id in ("a", "b", "c"):
        cls, patch = features(clip_id, identity)
        np.testing.assert_array_equal(store.read_patches([clip_id])[0], patch)
        np.testing.assert_array_equal(store.read_cls([clip_id])[0], cls)
        last = np.array([[frames - 1, 0]])
        np.testing.assert_array_equal(store.read_patches([clip_id], last)[0], patch[last[0]])


def test_reading_goes_on_where_the_system_gives_less(
    filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, limits = os.preadv, iter(range(1, 10**6))

    def stingy(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        limit = next(limits) % 13 + 1
        return real(descriptor, [buffers[0][:limit]], offset)

    monkeypatch.setattr(os, "preadv", stingy)
    store = open_store(filled.path)
    np.testing.assert_array_equal(store.read_patches(filled.ok), filled.patch(filled.ok))
    np.testing.assert_array_equal(store.read_cls(filled.ok), filled.cls(filled.ok))


def test_out_is_filled_and_returned(filled) -> None:
    store = open_store(filled.path)
    out = np.zeros((2, FRAMES, PATCHES, DIM), np.float16)
    assert store.read_patches(["c1", "c9"], out=out) is out
    np.testing.assert_array_equal(out, filled.patch(["c1", "c9"]))
    some = np.zeros((1, 2, PATCHES, DIM), np.float16)
    assert store.read_patches(["c1"], [[4, 0]], out=some) is some
    np.testing.assert_array_equal(some[0], filled.patch(["c1"])[0, [4, 0]])
    cls = np.zeros((1, FRAMES, DIM), np.float16)
    assert store.read_cls(["c3"], out=cls) is cls
    np.testing.assert_array_equal(cls, filled.cls(["c3"]))


def _frozen() -> np.ndarray:
    array = np.zeros((1, FRAMES, PATCHES, DIM), np.float16)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((1, FRAMES, PATCHES, DIM), np.float32),
        np.zeros((2, FRAMES, PATCHES, DIM), np.float16),
        np.zeros((1, FRAMES, PATCHES, 2 * DIM), np.float16)[..., ::2],
        _frozen(),
    ],
    ids=["dtype", "shape", "strided", "read-only"],
)
def test_an_out_that_does_not_fit_is_refused(filled, out: np.ndarray) -> None:
    with pytest.raises(InputError, match="out"):
        open_store(filled.path).read_patches(["c1"], out=out)
    assert not out.any()


@pytest.mark.parametrize(
    "frames",
    [[[5]], [[-1]], [[0.0]], [0], [[0], [1]], [[True]], [[2**63]]],
    ids=["past-end", "negative", "float", "flat", "rows", "bool", "huge"],
)
def test_frames_that_do_not_fit_are_refused(filled, frames: list) -> None:
    with pytest.raises(InputError, match="frames"):
        open_store(filled.path).read_patches(["c1"], frames)


def test_clips_without_features_are_named(filled) -> None:
    store = open_store(filled.path)
    for read in (store.read_cls, store.read_patches):
        with pytest.raises(
            ClipMissing, match=r"'c2' failed in extraction \(truncated: moov is missing\)"
        ):
            read(["c1", "c2"])
        with pytest.raises(ClipMissing, match="'zz' is not among the 10 clips"):
            read(["zz"])
    for tell in (store.outcome, store.frame_times):
        with pytest.raises(ClipMissing, match="'zz'"):
            tell("zz")
    with pytest.raises(ClipMissing, match="'c2'"):
        store.frame_times("c2")


def test_what_a_store_tells(filled, ok_outcome: Callable, failed_outcome: Callable) -> None:
    store = open_store(str(filled.path))
    assert (store.location, store.identity, store.version) == (str(filled.path), filled.identity, 1)
    assert store.clip_ids == filled.ok
    assert len(store) == 9
    assert "c1" in store
    assert "c2" not in store
    assert "zz" not in store
    assert store.outcome("c1") == ok_outcome("c1")
    assert store.outcome("c2") == failed_outcome("c2")
    np.testing.assert_array_equal(store.frame_times("c1"), ok_outcome("c1").frame_time)


def test_a_pickled_store_keeps_its_version(
    filled, identity: FeatureIdentity, write_clips_of: Callable
) -> None:
    store = open_store(filled.path, check=False)
    store.read_patches(["c1"])
    payload = pickle.dumps(store)
    assert len(payload) < 1000
    with StoreWriter(filled.path, identity) as writer:
        write_clips_of(writer, ["d1"])
        writer.compact()
    copy = pickle.loads(payload)  # noqa: S301
    assert copy.version == 1
    assert "d1" not in copy
    assert copy.manifest().equals(store.manifest())
    np.testing.assert_array_equal(copy.read_patches(["c1"]), filled.patch(["c1"]))


def test_threads_share_a_store(filled) -> None:
    store = open_store(filled.path)

    def read(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        clip_ids = list(rng.permutation(filled.ok))
        frames = rng.integers(0, FRAMES, (len(clip_ids), 3))
        expected = np.stack([p[f] for p, f in zip(filled.patch(clip_ids), frames, strict=True)])
        return bool((store.read_patches(clip_ids, frames) == expected).all()) and bool(
            (store.read_cls(clip_ids) == filled.cls(clip_ids)).all()
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(40)))


_FORK = """
import os, sys, conftest, cache_schema
store = cache_schema.open_store(sys.argv[1])
ids = store.clip_ids
expected = store.read_patches(ids[:3])
children = []
for _ in range(4):
    pid = os.fork()
    if not pid:
        same = (store.read_patches(ids[:3]) == expected).all() and store.read_cls(ids).size
        store.outcome(ids[0])
        os._exit(0 if same else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children])
"""


def test_a_forked_child_reads_on(filled, run_python: Callable[..., subprocess.Popen[str]]) -> None:
    answer = run_python(_FORK, filled.path).communicate(timeout=60)[0]
    assert answer.strip() == "[0, 0, 0, 0]"


def test_reading_keeps_no_file_open(filled) -> None:
    store = open_store(filled.path)
    store.read_patches(filled.ok)
    store.read_cls(filled.ok)
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [link for link in links if link.is_relative_to(filled.path)]


def test_reading_needs_no_zarr(filled, run_python: Callable[..., subprocess.Popen[str]]) -> None:
    script = """
import sys, cache_schema
store = cache_schema.open_store(sys.argv[1])
store.read_patches(store.clip_ids)
print(sorted({"zarr", "torch", "dask"} & set(sys.modules)))
"""
    assert run_python(script, filled.path).communicate(timeout=60)[0].strip() == "[]"
