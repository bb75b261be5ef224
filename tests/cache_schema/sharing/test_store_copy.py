"""Copying and merging: the same bytes arrive, once, whatever stops a run; disagreement stops it first."""

import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cache_schema import (
    IdentityMismatch,
    InputError,
    Status,
    StoreError,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.exchange.store_convert import convert_store
from cache_schema.sharing.copy_plan import plan_copy
from cache_schema.sharing.store_copy import copy_clips
from cache_schema.sharing.store_difference import compare_stores

Write = Callable[..., None]


def _store(path: Path, identity, write_clips_of: Write, ids: list[str], **options) -> Path:
    create_store(path, identity, block_slots=4, segment_slots=8)
    with StoreWriter(path, identity) as writer:
        write_clips_of(writer, ids, **options)
        writer.compact()
    return path


def test_a_copy_of_everything_is_equal_and_sound(filled, tmp_path):
    told = []
    source = open_store(filled.path)
    report = copy_clips([source], tmp_path / "copy", on_clip=lambda *done: told.append(done))
    assert report.complete
    assert set(report.copied) == set(filled.ok)
    assert report.failed == ("c2",)
    assert told[-1] == (10, 10)
    copy = open_store(tmp_path / "copy")
    assert compare_stores(source, copy).equal
    for clip_id in [*filled.ok, "c2"]:
        assert copy.outcome(clip_id) == source.outcome(clip_id)
    assert np.array_equal(copy.read_patches(filled.ok), filled.patch(filled.ok))
    assert verify_store(tmp_path / "copy") == []


def test_a_part_is_planned_sized_copied_and_found_again(filled, tmp_path):
    source, wanted = open_store(filled.path), ["c9", "c1", "c2", "c1", "nobody"]
    plan = plan_copy([source], tmp_path / "part", wanted)
    assert list(plan.take) == ["c2", "c1", "c9"], "by their places, so that reading goes forward"
    assert plan.missing == ("nobody",)
    assert plan.bytes_needed == 2 * plan.layout.clip_bytes
    assert not (tmp_path / "part").exists()

    report = copy_clips([source], tmp_path / "part", wanted)
    assert not report.complete
    assert report.missing == ("nobody",)
    part = open_store(tmp_path / "part")
    assert part.clip_ids == ["c1", "c9"]
    assert part.outcome("c2").reason == "truncated"
    on_disk = sum(f.stat().st_size for f in (tmp_path / "part").rglob("c.*"))
    assert abs(on_disk - plan.bytes_needed) < 200

    again = copy_clips([source], tmp_path / "part", wanted[:3])
    assert (again.complete, again.copied, again.present) == (True, (), 3)
    more = copy_clips([source], tmp_path / "part", ["c1", "c3"])
    assert more.copied == ("c3",)
    assert verify_store(tmp_path / "part") == []


def test_features_replace_a_failure_and_no_failure_replaces_features(
    tmp_path, identity, write_clips_of: Write
):
    bad = _store(tmp_path / "bad", identity, write_clips_of, ["a", "b"], failed=("a", "b"))
    good = _store(tmp_path / "good", identity, write_clips_of, ["a"])
    target = tmp_path / "target"
    assert copy_clips([open_store(bad)], target).failed == ("a", "b")
    assert copy_clips([open_store(good)], target).copied == ("a",)
    assert copy_clips([open_store(bad)], target).complete
    merged = open_store(target)
    assert merged.outcome("a").status is Status.OK
    assert merged.outcome("b").status is Status.FAILED


def test_stores_of_one_identity_are_merged(tmp_path, identity, write_clips_of: Write):
    sources = [
        open_store(_store(tmp_path / "1", identity, write_clips_of, list("abcde"), failed=("a",))),
        open_store(_store(tmp_path / "2", identity, write_clips_of, list("fbag"))),
    ]
    report = copy_clips(sources, tmp_path / "merged")
    assert report.complete
    merged = open_store(tmp_path / "merged")
    assert merged.clip_ids == list("abcdefg")
    assert np.array_equal(merged.read_patches(["a"]), sources[1].read_patches(["a"]))
    assert verify_store(tmp_path / "merged") == []


@pytest.mark.parametrize("array", ["patch", "cls"])
def test_disagreement_is_listed_and_nothing_is_copied(
    tmp_path, identity, features, ok_outcome, write_clips_of: Write, array
):
    first = _store(tmp_path / "1", identity, write_clips_of, list("abc"))
    create_store(tmp_path / "2", identity, block_slots=4, segment_slots=8)
    with StoreWriter(tmp_path / "2", identity) as writer:
        claim = writer.claim(["b"])
        cls, patch = (part[None].copy() for part in features("b", identity))
        (patch if array == "patch" else cls)[0, 0, 0] += np.float16(1)
        writer.write_block(claim, [ok_outcome("b")], cls, patch)
        writer.compact()
    stores = [open_store(first), open_store(tmp_path / "2")]
    (conflict,) = plan_copy(stores, tmp_path / "merged").conflicts
    assert (conflict.clip_id, conflict.array) == ("b", array)
    with pytest.raises(StoreError, match=f"disagree about 1 clips(.|\n)*'b' has other {array}"):
        copy_clips(stores, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(StoreError, match="disagree"):
        copy_clips(stores[:1], tmp_path / "2")
    assert open_store(tmp_path / "2").clip_ids == ["b"]


def test_other_identities_are_refused(filled, tmp_path, make_identity, write_clips_of: Write):
    other = _store(tmp_path / "o", make_identity(precision="bf16"), write_clips_of, ["a"])
    with pytest.raises(IdentityMismatch, match="precision: 'fp32' here, 'bf16' there"):
        copy_clips([open_store(filled.path), open_store(other)], tmp_path / "merged")
    with pytest.raises(IdentityMismatch, match="precision"):
        copy_clips([open_store(filled.path)], other)
    assert open_store(other).clip_ids == ["a"]


def test_no_source_and_no_room_are_refused(filled, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="at least one"):
        copy_clips([], tmp_path / "t")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match="0 MB free"):
        copy_clips([open_store(filled.path)], tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("options", [{"int8": True}, {"pool": (1, 1)}], ids=["int8", "pooled"])
def test_a_copy_of_a_reduced_variant_is_the_same_byte_for_byte(
    tmp_path, make_identity, write_clips_of: Write, options
):
    source = _store(tmp_path / "s", make_identity(patches=4), write_clips_of, list("abcde"))
    convert_store(open_store(source), tmp_path / "small", **options)
    small = open_store(tmp_path / "small")
    assert copy_clips([small], tmp_path / "copy").complete
    shards = [path.relative_to(tmp_path / "small") for path in (tmp_path / "small").rglob("c.*")]
    assert len(shards) == 5 + 2 * (2 if "int8" in options else 1)
    for shard in shards:
        assert (tmp_path / "copy" / shard).read_bytes() == (tmp_path / "small" / shard).read_bytes()
    assert compare_stores(small, open_store(tmp_path / "copy")).equal
    assert open_store(tmp_path / "copy").outcome("a") == small.outcome("a")


def test_int8_patches_with_other_scales_are_other_features(
    tmp_path, identity, features, ok_outcome
):
    """Twice the features are the same int8 values: their digests cannot tell."""
    small = identity.reduced(int8=True)
    stores = []
    for number, factor in enumerate((1, 2)):
        create_store(tmp_path / str(number), small, block_slots=4, segment_slots=8)
        with StoreWriter(tmp_path / str(number), small) as writer:
            claim = writer.claim(["a"])
            cls, patch = features("a", identity)
            patch = patch * np.float16(factor)
            writer.write_block(claim, [ok_outcome("a")], cls[None], patch[None])
            writer.compact()
        stores.append(open_store(tmp_path / str(number)))
    digests = {store.manifest(["patch_digest"])[0][0].as_py() for store in stores}
    assert len(digests) == 1
    (conflict,) = plan_copy(stores, tmp_path / "merged").conflicts
    assert conflict.array == "patch"


def _flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


def test_damage_is_not_copied_and_the_rest_is(filled, tmp_path):
    _flip(filled.path / "seg-000000" / "patch" / "c.1.0.0.0", 10)
    report = copy_clips([open_store(filled.path)], tmp_path / "copy")
    assert not report.complete
    (damaged,) = report.damaged
    assert damaged.clip_id == "c1"
    assert "crc32c" in damaged.message
    assert report.left == ()
    assert set(open_store(tmp_path / "copy").clip_ids) == set(filled.ok) - {"c1"}


def test_a_shard_of_another_clip_is_not_copied(filled, tmp_path):
    """Its checksums are right; only the digest that the manifest tells is not."""
    patch = filled.path / "seg-000000" / "patch"
    other = (patch / "c.0.0.0.0").read_bytes()
    (patch / "c.1.0.0.0").unlink()
    (patch / "c.1.0.0.0").write_bytes(other)
    report = copy_clips([open_store(filled.path)], tmp_path / "copy")
    assert [clip.clip_id for clip in report.damaged] == ["c1"]
    assert "digest" in report.damaged[0].message


_COPY = """
import sys
from cache_schema import open_store
from cache_schema.exchange.store_convert import convert_store
from cache_schema.sharing.store_copy import copy_clips
print("begin", flush=True)
copy_clips([open_store(sys.argv[1])], sys.argv[2], on_clip=lambda done, total: print(done, flush=True))
"""


def test_a_killed_copy_goes_on_where_it_was(tmp_path, identity, write_clips_of: Write, run_python):
    ids = [f"c{number:03d}" for number in range(120)]
    source = open_store(_store(tmp_path / "source", identity, write_clips_of, ids))
    target = tmp_path / "target"
    process = run_python(_COPY, tmp_path / "source", target)
    for line in process.stdout:
        if line.strip() not in {"begin", "4"}:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    committed = len(list((target / "commits").iterdir()))
    assert 0 < committed < 30
    report = copy_clips([source], target)
    assert report.complete
    assert len(report.copied) <= 120 - 4 * (committed - 1)
    assert compare_stores(source, open_store(target)).equal


def test_two_copies_at_once_share_the_work(tmp_path, identity, write_clips_of: Write, run_python):
    ids = [f"c{number:03d}" for number in range(60)]
    source = open_store(_store(tmp_path / "source", identity, write_clips_of, ids))
    jobs = [run_python(_COPY, tmp_path / "source", tmp_path / "target") for _ in range(2)]
    for job in jobs:
        job.communicate(timeout=100)
        assert job.returncode == 0
    copy = open_store(tmp_path / "target")
    assert compare_stores(source, copy).equal
    assert [f for f in verify_store(tmp_path / "target") if f.severity != "notice"] == []


def test_clips_go_to_an_object_store_and_come_back(filled, tmp_path, bucket_url: str):
    source = open_store(filled.path)
    assert copy_clips([source], bucket_url).complete
    assert compare_stores(source, open_store(bucket_url)).equal
    plan = plan_copy([open_store(bucket_url)], bucket_url)
    assert (plan.bytes_free, len(plan.present), dict(plan.take)) == (None, 10, {})
    back = tmp_path / "back"
    assert copy_clips([open_store(bucket_url)], back, ["c9", "c1", "c2"]).complete
    assert open_store(back).clip_ids == ["c1", "c9"]
    assert np.array_equal(open_store(back).read_patches(["c9"]), filled.patch(["c9"]))
