"""Comparing stores: what is equal is told without reading, and distances are those of plain NumPy."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import FeatureStore, StoreWriter, create_store, open_store
from cache_schema.sharing.store_difference import compare_stores, token_difference

Features = Callable[..., tuple[np.ndarray, np.ndarray]]


def _write(path: Path, identity, clips: dict[str, tuple], ok_outcome, block_slots: int = 4) -> Path:
    """A store of given clips: id -> (cls, patch, outcome changes), one block after the other."""
    create_store(path, identity, block_slots=block_slots, segment_slots=block_slots * 4)
    with StoreWriter(path, identity) as writer:
        ids = list(clips)
        for start in range(0, len(ids), block_slots):
            claim = writer.claim(ids[start : start + block_slots])
            cls, patch, changes = zip(*(clips[c] for c in claim.clip_ids), strict=True)
            outcomes = [
                ok_outcome(c, identity.frames, **change)
                for c, change in zip(claim.clip_ids, changes, strict=True)
            ]
            writer.write_block(claim, outcomes, np.stack(cls), np.stack(patch))
        writer.compact()
    return path


@pytest.fixture
def clips(identity, features: Features) -> dict[str, tuple]:
    return {f"c{n}": (*features(f"c{n}", identity), {}) for n in range(6)}


def test_a_store_equals_its_copy_and_nothing_is_read(
    tmp_path, identity, clips, ok_outcome, monkeypatch
):
    paths = [_write(tmp_path / name, identity, clips, ok_outcome) for name in "ab"]
    a, b = map(open_store, paths)
    for name in ("read_cls", "read_patches"):
        monkeypatch.setattr(FeatureStore, name, lambda *_: pytest.fail("was read"))
    found = compare_stores(a, b)
    assert found.equal
    assert found.same == 6
    assert found.differing == ()


def test_other_neighbours_in_a_block_make_no_difference(tmp_path, identity, clips, ok_outcome):
    a = open_store(_write(tmp_path / "a", identity, clips, ok_outcome))
    backwards = dict(reversed(clips.items()))
    b = open_store(_write(tmp_path / "b", identity, backwards, ok_outcome, block_slots=2))
    assert compare_stores(a, b).equal


def test_differences_are_measured_as_numpy_measures_them(tmp_path, identity, clips, ok_outcome):
    cls, patch, _ = clips["c1"]
    nudged = patch.copy()
    nudged[2, 1] *= np.float16(-1)
    late = {"frame_time": np.arange(5) / 7 + 0.25}
    other = {
        **{name: clips[name] for name in ("c0", "c3", "c4")},
        "c1": (cls, nudged, {"backend": "decord 3.0.0"}),
        "c2": (clips["c2"][0] + np.float16(1), *clips["c2"][1:]),
        "c5": (*clips["c5"][:2], late | {"source_digest": "cd" * 16}),
        "new": clips["c0"],
    }
    a = open_store(_write(tmp_path / "a", identity, clips, ok_outcome))
    b = open_store(_write(tmp_path / "b", identity, other, ok_outcome))
    told = []
    found = compare_stores(a, b, on_clip=lambda *done: told.append(done))
    assert not found.equal
    assert (found.only_a, found.only_b, found.same) == ((), ("new",), 3)
    c1, c2, c5 = found.differing
    assert told == [(1, 3), (2, 3), (3, 3)]

    assert (c1.clip_id, c1.backends) == ("c1", ("pyav 18.1.0", "decord 3.0.0"))
    assert not c1.source_differs
    assert c1.time_max_abs == 0
    assert (c1.cls.max_abs, c1.cls.cosine_min) == (0, pytest.approx(1))
    assert c1.patch.max_abs == 2 * float(np.abs(patch[2, 1].astype(float)).max())
    assert c1.patch.cosine_min == pytest.approx(-1)
    assert c1.patch.cosine_mean == pytest.approx((15 - 2) / 15)

    x = clips["c2"][0].astype(float)
    y = (clips["c2"][0] + np.float16(1)).astype(float)
    cosines = [u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in zip(x, y, strict=True)]
    assert c2.cls.cosine_mean == pytest.approx(np.mean(cosines))
    assert c2.cls.cosine_min == pytest.approx(np.min(cosines))
    assert c2.patch.max_abs == 0

    assert c5.source_differs
    assert c5.time_max_abs == pytest.approx(0.25)
    assert json.loads(json.dumps(found.to_json()))["differing"][0]["patch"]["max_abs"] > 0


def test_a_sample_bounds_the_reading_not_the_verdict(tmp_path, identity, clips, ok_outcome):
    other = {name: (cls, -patch, {}) for name, (cls, patch, _) in clips.items()}
    a = open_store(_write(tmp_path / "a", identity, clips, ok_outcome))
    b = open_store(_write(tmp_path / "b", identity, other, ok_outcome))
    found = compare_stores(a, b, sample=2)
    assert [d.clip_id for d in found.differing] == list(clips)
    assert [d.clip_id for d in found.differing if d.patch] == ["c0", "c3"]
    assert not compare_stores(a, b, sample=0).equal


def test_other_shapes_are_named_and_not_read(
    tmp_path, identity, make_identity, clips, features: Features, ok_outcome
):
    wider = make_identity(patches=4, frames=6)
    others = {"c0": (*features("c0", wider), {})}
    a = open_store(_write(tmp_path / "a", identity, clips, ok_outcome))
    b = open_store(_write(tmp_path / "b", wider, others, ok_outcome))
    found = compare_stores(a, b)
    assert "patches: 3 here, 4 there" in found.identity
    (c0,) = found.differing
    assert (c0.cls, c0.patch, c0.time_max_abs) == (None, None, None)
    assert found.only_a == ("c1", "c2", "c3", "c4", "c5")


def test_tokens_of_length_zero_have_a_cosine():
    zero, one = np.zeros((1, 3), np.float16), np.ones((1, 3), np.float16)
    assert token_difference(zero, zero).cosine_min == 1
    assert token_difference(zero, one).cosine_min == 0
    assert token_difference(one, -one).cosine_min == pytest.approx(-1)
