"""Smaller variants of a store: read like any other, reproduced by zarr-python, and their loss told."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from cache_schema import (
    CorruptStore,
    FeatureIdentity,
    InputError,
    StoreNewer,
    StoreWriter,
    create_store,
    open_store,
    store_root,
    verify_store,
)
from cache_schema.exchange.store_convert import convert_store, measured_loss, plan_conversion

FRAMES, PATCHES, DIM = 6, 49, 32
CLIPS = [f"c{number}" for number in range(5)]
VARIANTS = [
    pytest.param({"int8": True}, id="int8"),
    pytest.param({"pool": (4, 4)}, id="pooled"),
    pytest.param({"pool": (4, 4), "int8": True}, id="both"),
]


def tokens(clip_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Features as CLIP's are: a common direction, two far larger channels, neighbours alike."""
    rng = np.random.default_rng(list(clip_id.encode()))
    coarse = rng.standard_normal((FRAMES, 2, 2, DIM))
    patch = coarse.repeat(4, axis=1)[:, :7].repeat(4, axis=2)[:, :, :7].reshape(FRAMES, 49, DIM)
    patch = patch + rng.standard_normal(patch.shape) * 0.05 + 0.3
    patch[..., [3, 17]] *= 6
    cls = rng.standard_normal((FRAMES, DIM))
    return cls.astype(np.float16), patch.astype(np.float16)


def slowly_restored(patch: np.ndarray) -> np.ndarray:
    """Quantised and back again, token by token, by the definition on the format's page."""
    back = np.empty_like(patch)
    for place in np.ndindex(patch.shape[:-1]):
        token = patch[place].astype(np.float32)
        scale = np.float32(np.abs(token).max() / np.float32(127))
        back[place] = (np.rint(token / scale).clip(-127, 127) * scale).astype(np.float16)
    return back


def slowly_pooled(patch: np.ndarray) -> np.ndarray:
    grid = patch.astype(np.float64).reshape(FRAMES, 7, 7, DIM)
    edges = [(0, 2), (1, 4), (3, 6), (5, 7)]
    cells = [grid[:, a:b, c:d].mean((1, 2)) for a, b in edges for c, d in edges]
    return np.stack(cells, axis=1)


@pytest.fixture
def write(tmp_path: Path, ok_outcome: Callable, failed_outcome: Callable) -> Callable[..., Path]:
    def fill(identity: FeatureIdentity, name: str, **changes: object) -> Path:
        path = tmp_path / name
        create_store(path, identity, block_slots=2, segment_slots=4)
        with StoreWriter(path, identity) as writer:
            for start in range(0, len(CLIPS), 2):
                claim = writer.claim(CLIPS[start : start + 2])
                assert claim is not None
                cls, patch = (
                    np.stack(part) for part in zip(*map(tokens, claim.clip_ids), strict=True)
                )
                outcomes = [ok_outcome(clip, FRAMES, **changes) for clip in claim.clip_ids]
                writer.write_block(claim, outcomes, cls, patch)
            claim = writer.claim(["broken"])
            assert claim is not None
            writer.write_block(claim, [failed_outcome("broken")], cls[:1], patch[:1])
            writer.compact()
        return path

    return fill


@pytest.fixture
def whole(write: Callable[..., Path], make_identity: Callable[..., FeatureIdentity]) -> Path:
    return write(make_identity(frames=FRAMES, patches=PATCHES, dim=DIM), "whole")


@pytest.mark.parametrize("options", VARIANTS)
def test_a_variant_is_read_like_any_store(whole: Path, tmp_path: Path, options: dict) -> None:
    report = convert_store(open_store(whole), tmp_path / "small", **options)
    assert (report.converted, report.skipped) == (len(CLIPS) + 1, 0)
    store, source = open_store(tmp_path / "small"), open_store(whole)
    assert store.clip_ids == CLIPS
    assert store.outcome("broken").reason == "truncated"
    np.testing.assert_array_equal(store.read_cls(CLIPS), source.read_cls(CLIPS))
    for clip in CLIPS:
        expected = tokens(clip)[1]
        if "pool" in options:
            pooled = slowly_pooled(expected)
            found = store.read_patches([clip])[0]
            spacing = np.abs(pooled).max() / 127 if "int8" in options else 2e-3
            np.testing.assert_allclose(found, pooled, rtol=1e-3, atol=spacing)
        else:
            np.testing.assert_array_equal(store.read_patches([clip])[0], slowly_restored(expected))
        np.testing.assert_array_equal(store.frame_times(clip), source.frame_times(clip))
    everything = store.read_patches(CLIPS)
    chosen = np.array([[5, 0, 0], [2, 3, 4], [1, 1, 1], [0, 2, 4], [5, 4, 3]])
    out = np.zeros((5, 3, *everything.shape[2:]), dtype=np.float16)
    assert store.read_patches(CLIPS, chosen, out=out) is out
    np.testing.assert_array_equal(out, everything[np.arange(5)[:, None], chosen])
    assert verify_store(tmp_path / "small") == []


@pytest.mark.parametrize("options", VARIANTS)
def test_a_variants_identity_names_what_was_reduced(
    whole: Path, tmp_path: Path, options: dict
) -> None:
    convert_store(open_store(whole), tmp_path / "small", **options)
    source, store = open_store(whole), open_store(tmp_path / "small")
    assert store.identity == source.identity.reduced(**options)
    assert store.identity.unreduced() == source.identity
    found = json.loads((tmp_path / "small" / "zarr.json").read_text())["attributes"]
    assert found["videodistill"]["reader_features"] == list(store.identity.reader_features)


def test_a_reader_that_does_not_know_a_variant_refuses_it(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_store(open_store(whole), tmp_path / "small", pool=(4, 4), int8=True)
    monkeypatch.setattr(store_root, "_READER_FEATURES", {"pooled"})
    with pytest.raises(StoreNewer, match="int8-token"):
        open_store(tmp_path / "small")


def test_a_variant_that_hides_what_it_is_is_damaged(whole: Path, tmp_path: Path) -> None:
    convert_store(open_store(whole), tmp_path / "small", int8=True)
    file = tmp_path / "small" / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["videodistill"]["reader_features"] = []
    file.write_text(json.dumps(document))
    with pytest.raises(CorruptStore, match="int8-token"):
        open_store(tmp_path / "small")


@pytest.mark.parametrize("options", VARIANTS)
def test_the_loss_is_measured_clip_by_clip(whole: Path, tmp_path: Path, options: dict) -> None:
    report = convert_store(open_store(whole), tmp_path / "small", **options)
    store = open_store(tmp_path / "small")
    assert report.loss == measured_loss(store)
    assert report.loss is not None
    assert report.loss.tokens == len(CLIPS) * FRAMES * PATCHES
    assert report.loss.reference_patches == PATCHES
    worst, most, squares = 1.0, 0.0, 0.0
    nearest = ((2 * np.arange(7) + 1) * 4) // 14
    for clip in CLIPS:
        before = tokens(clip)[1].astype(np.float64)
        after = store.read_patches([clip])[0].astype(np.float64)
        if "pool" in options:
            grid = after.reshape(FRAMES, 4, 4, DIM)
            after = grid[:, nearest][:, :, nearest].reshape(before.shape)
        product = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
        worst = min(worst, ((before * after).sum(-1) / product).min())
        most = max(most, np.abs(before - after).max())
        squares += ((before - after) ** 2).sum()
    assert report.loss.min_cosine == pytest.approx(worst, abs=1e-6)
    assert report.loss.max_abs == pytest.approx(most, rel=1e-5)
    assert report.loss.error_squares == pytest.approx(squares, rel=1e-4)
    if options == {"int8": True}:
        assert report.loss.min_cosine >= 0.999
        assert report.loss.relative < 0.02


@pytest.mark.parametrize("options", VARIANTS)
def test_a_variant_written_at_once_is_the_converted_one(
    whole: Path, write: Callable[..., Path], tmp_path: Path, options: dict
) -> None:
    convert_store(open_store(whole), tmp_path / "converted", **options)
    converted = open_store(tmp_path / "converted")
    direct = open_store(write(converted.identity, "direct"))
    assert direct.identity == converted.identity
    columns = ["clip_id", "patch_digest", "loss"]
    assert direct.manifest(columns).to_pylist() == converted.manifest(columns).to_pylist()


@pytest.mark.parametrize("options", VARIANTS)
def test_a_copy_keeps_every_bit_and_the_loss(whole: Path, tmp_path: Path, options: dict) -> None:
    convert_store(open_store(whole), tmp_path / "small", **options)
    small = open_store(tmp_path / "small")
    create_store(tmp_path / "copy", small.identity, block_slots=4, segment_slots=4)
    with StoreWriter(tmp_path / "copy", small.identity) as writer:
        claim = writer.claim(CLIPS[1:4])
        assert claim is not None
        writer.write_block(
            claim,
            [small.outcome(clip) for clip in claim.clip_ids],
            small.read_cls(CLIPS[1:4]),
            small.read_patches(CLIPS[1:4]),
        )
        writer.compact()
    copy = open_store(tmp_path / "copy")
    columns = ["patch_digest", "loss"]
    assert copy.manifest(columns).to_pylist() == small.rows(CLIPS[1:4], columns).to_pylist()


def test_zarr_python_reads_int8_and_restores_the_same_halves(whole: Path, tmp_path: Path) -> None:
    convert_store(open_store(whole), tmp_path / "small", int8=True)
    store = open_store(tmp_path / "small")
    for row in store.rows(CLIPS, ["clip_id", "segment", "slot"]).to_pylist():
        folder = tmp_path / "small" / f"seg-{row['segment']:06d}"
        values = zarr.open_array(folder / "patch", mode="r")[row["slot"]]
        scale = zarr.open_array(folder / "patch_scale", mode="r")[row["slot"]]
        assert (values.dtype, scale.dtype) == (np.int8, np.float32)
        halves = (values.astype(np.float32) * scale[..., None]).astype(np.float16)
        assert halves.tobytes() == store.read_patches([row["clip_id"]]).tobytes()


def test_a_slot_without_a_clip_cannot_pass_for_zeros(whole: Path, tmp_path: Path) -> None:
    convert_store(open_store(whole), tmp_path / "small", int8=True)
    folder = tmp_path / "small" / "seg-000001"
    assert (zarr.open_array(folder / "patch", mode="r")[3] == -128).all()
    assert np.isnan(zarr.open_array(folder / "patch_scale", mode="r")[3]).all()


@pytest.mark.parametrize("place", ["patch/c.0.0.0.0", "patch_scale/c.0.0.0"])
def test_a_flipped_bit_in_an_int8_store_is_found(whole: Path, tmp_path: Path, place: str) -> None:
    convert_store(open_store(whole), tmp_path / "small", int8=True)
    file = tmp_path / "small" / "seg-000000" / place
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptStore, match=r"crc32c.*"):
        open_store(tmp_path / "small").read_patches(["c0"])
    errors = [
        finding for finding in verify_store(tmp_path / "small") if finding.severity == "error"
    ]
    assert {finding.place for finding in errors} == {f"seg-000000/{place}"}
    assert {finding.code for finding in errors} == {"digest", "checksum"}


def test_a_missing_scale_is_found(whole: Path, tmp_path: Path) -> None:
    convert_store(open_store(whole), tmp_path / "small", int8=True)
    (tmp_path / "small" / "seg-000000" / "patch_scale" / "c.1.0.0").unlink()
    with pytest.raises(CorruptStore, match="missing"):
        open_store(tmp_path / "small").read_patches(["c2"])
    codes = {finding.code for finding in verify_store(tmp_path / "small", quick=True)}
    assert codes == {"missing"}


def test_converting_again_does_what_is_missing(whole: Path, tmp_path: Path) -> None:
    source, target = open_store(whole), tmp_path / "small"
    seen: list[int] = []

    def stop_at_the_third(done: int, total: int) -> None:
        assert total == len(CLIPS) + 1
        seen.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_store(source, target, int8=True, on_clip=stop_at_the_third)
    assert seen == [1, 2, 3]
    left = plan_conversion(source, target, int8=True)
    assert 0 < len(left.pending) < left.clips
    report = convert_store(source, target, int8=True)
    assert report.converted == len(left.pending)
    assert open_store(target).clip_ids == CLIPS
    assert plan_conversion(source, target, int8=True).pending == ()


def test_a_pooled_store_becomes_int8_but_is_not_pooled_again(whole: Path, tmp_path: Path) -> None:
    convert_store(open_store(whole), tmp_path / "pooled", pool=(4, 4))
    pooled = open_store(tmp_path / "pooled")
    report = convert_store(pooled, tmp_path / "both", int8=True)
    assert report.loss is not None
    assert report.loss.reference_patches == 16
    convert_store(open_store(whole), tmp_path / "at-once", pool=(4, 4), int8=True)
    both, at_once = open_store(tmp_path / "both"), open_store(tmp_path / "at-once")
    assert both.identity == at_once.identity
    np.testing.assert_array_equal(both.read_patches(CLIPS), at_once.read_patches(CLIPS))
    with pytest.raises(InputError, match="reduced variant already"):
        plan_conversion(pooled, tmp_path / "x", pool=(2, 2))


def test_sizes_are_known_before(whole: Path, tmp_path: Path) -> None:
    source = open_store(whole)
    plan = plan_conversion(source, tmp_path / "small", int8=True)
    assert plan.bytes_needed == plan.target_bytes
    convert_store(source, tmp_path / "small", int8=True)
    for path, expected in ((whole, plan.source_bytes), (tmp_path / "small", plan.target_bytes)):
        shards = [file for file in path.rglob("c.*") if file.is_file()]
        found = sum(file.stat().st_size for file in shards)
        # The index of a block's shard has room for clips that are not there.
        assert expected <= found <= expected + len(shards) * 100


def test_nothing_to_reduce_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Say what to reduce"):
        plan_conversion(open_store(whole), tmp_path / "x")
    assert not (tmp_path / "x").exists()
