"""Verifying: a sound store has no findings, and every kind of trouble has its own."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cache_schema import StoreAbsent, StoreWriter, open_store, verify_store
from cache_schema.blocks.block_commit import read_commit
from cache_schema.manifest.manifest_part import ManifestPart
from cache_schema.manifest.manifest_version import publish_version, read_version, record_key
from cache_schema.manifest.part_index import encode_index
from cache_schema.shards.shard_audit import feature_flaws
from cache_schema.store_root import read_root

Write = Callable[..., None]


def _codes(path: Path, **options: bool) -> set[tuple[str, str]]:
    return {(finding.severity, finding.code) for finding in verify_store(path, **options)}


@pytest.mark.parametrize("quick", [True, False])
def test_a_sound_store_has_no_findings(filled, quick: bool) -> None:
    assert verify_store(filled.path, quick=quick) == []


def test_progress_ends_at_the_number_of_clips(filled) -> None:
    told: list[tuple[int, int]] = []
    verify_store(filled.path, on_clip=lambda *done: told.append(done))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_an_absent_store_is_an_error_not_a_finding(tmp_path: Path) -> None:
    with pytest.raises(StoreAbsent):
        verify_store(tmp_path / "nothing")


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _delete(file: Path) -> None:
    file.unlink()


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)


def _flip_index(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-6] ^= 1
    file.write_bytes(content)


PATCH, CLS = "seg-000000/patch/c.1.0.0.0", "seg-000000/cls/c.1.0.0"


@pytest.mark.parametrize(
    ("name", "spoil", "quick", "codes"),
    [
        (PATCH, _truncate, True, {"length"}),
        (PATCH, _delete, True, {"missing"}),
        (PATCH, _flip, True, set()),
        (PATCH, _flip, False, {"digest", "checksum"}),
        (PATCH, _flip_index, False, {"digest", "index"}),
        (CLS, _truncate, True, {"length"}),
        (CLS, _delete, False, {"missing"}),
        (CLS, _flip, False, {"digest", "checksum"}),
        (CLS, _flip_index, False, {"digest", "index"}),
        ("commits/000000.000001.json", _flip, True, {"commit"}),
        ("commits/000000.000001.json", _delete, True, {"commit"}),
        ("manifest/v000001.json", _flip, True, {"manifest"}),
        ("manifest/part-*.index", _flip, True, {"manifest"}),
        ("manifest/part-*.index", _delete, True, {"manifest"}),
        ("manifest/part-*.parquet", _flip, True, {"manifest"}),
        ("manifest/part-*.parquet", _truncate, True, {"manifest"}),
        ("manifest/CURRENT", _flip, True, {"manifest"}),
        ("zarr.json", _truncate, True, {"metadata"}),
        ("seg-000001/patch/zarr.json", _delete, True, {"metadata"}),
        ("seg-000001/cls/zarr.json", _truncate, True, {"metadata"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damage_is_an_error_with_its_place(
    filled, name: str, spoil: Callable[[Path], None], quick: bool, codes: set[str]
) -> None:
    (file,) = filled.path.glob(name)
    spoil(file)
    findings = verify_store(filled.path, quick=quick)
    errors = [finding for finding in findings if finding.severity == "error"]
    assert {finding.code for finding in errors} == codes
    assert all(file.name in str(finding) or "block 0.1" in finding.message for finding in errors)
    if name == PATCH:
        assert {finding.clip_id for finding in errors} <= {"c1"}


def test_a_segments_metadata_are_compared_with_the_layout(filled) -> None:
    file = filled.path / "seg-000001/patch/zarr.json"
    document = json.loads(file.read_text())
    document["fill_value"] = 0.0
    file.write_text(json.dumps(document))
    (finding,) = verify_store(filled.path, quick=True)
    assert "fill_value: is 0.0, not 'NaN'" in str(finding)


def test_what_is_left_over_is_noticed(
    empty_store: Path, identity: object, write_clips_of: Write
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ["a"])
        assert _codes(empty_store) == {("notice", "not-compacted")}
        writer.compact()
        claim = writer.claim(["b"])
        assert _codes(empty_store) == {("notice", "claimed")}
        (empty_store / "seg-000000/patch" / f"c.{4 * claim.block}.0.0.0").write_bytes(b"half")
        (empty_store / "seg-000000/patch/.tmp-c.5.0.0.0-0123").write_bytes(b"")
        writer.abandon(claim)
    assert _codes(empty_store) == {
        ("notice", "not-compacted"),
        ("notice", "uncommitted"),
        ("notice", "temporary"),
    }


def test_a_manifest_that_tells_otherwise_than_its_commits_is_an_error(
    filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_detail(root: Path, name: str) -> object:
        commit = read_commit(root, name)
        for clip in commit.clips:
            object.__setattr__(clip.outcome, "backend", "decord 9")
        return commit

    monkeypatch.setattr("cache_schema.upkeep.verify.read_commit", other_detail)
    findings = verify_store(filled.path, quick=True)
    assert {finding.code for finding in findings} == {"manifest"}
    assert len(findings) == 10


def _tokens(patches: int = 3) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((5, patches, 8)).astype(np.float16)


def test_features_of_an_encoder_have_no_flaws() -> None:
    assert feature_flaws(_tokens()) == []
    assert feature_flaws(_tokens(patches=1)) == []


@pytest.mark.parametrize(
    ("place", "value", "flaw"),
    [
        (np.s_[2, 1, 3], np.nan, "error: nonfinite: holds NaN or infinity in 1 of 5 frames"),
        (np.s_[1:3, 0, 0], np.inf, "error: nonfinite: holds NaN or infinity in 2 of 5 frames"),
        (np.s_[0], 0.0, "warning: constant: holds one value throughout 1 of 5 frames"),
        (np.s_[:], 1.5, "warning: constant: holds one value throughout 5 of 5 frames"),
        (
            np.s_[4],
            np.arange(8),
            "warning: repeated-tokens: repeats one patch token throughout 1 of 5 frames",
        ),
    ],
    ids=["nan", "inf", "zeros", "all-constant", "repeated"],
)
def test_features_that_no_encoder_makes(place: object, value: object, flaw: str) -> None:
    tokens = _tokens()
    tokens[place] = value
    assert [": ".join(found) for found in feature_flaws(tokens)] == [flaw]


def test_suspicious_features_are_found_in_a_store(
    empty_store: Path, identity: object, ok_outcome: Callable, features: Callable
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a", "b"])
        pairs = [features(clip_id, identity) for clip_id in claim.clip_ids]
        cls, patch = (np.stack(part) for part in zip(*pairs, strict=True))
        patch[1] = patch[1, :, :1]
        cls[0, 3] = 0
        writer.write_block(claim, [ok_outcome("a"), ok_outcome("b")], cls, patch)
        writer.compact()
    found = {(f.clip_id, f.code) for f in verify_store(empty_store)}
    assert found == {("a", "constant"), ("b", "repeated-tokens")}
    assert verify_store(empty_store, quick=True) == []
    assert len(open_store(empty_store)) == 2


def _refold(store: Path, **changes: object) -> None:
    """Puts another record in the place of version 1, sealed as a compactor would."""
    root = read_root(store)
    version = read_version(root)
    (store / record_key(1)).unlink()
    publish_version(root, replace(version, **changes))


def test_an_index_that_leads_to_other_rows_is_an_error(filled) -> None:
    root = read_root(filled.path)
    part = ManifestPart(root.storage, read_version(root).parts[0])
    entry = part.entry
    entries = part.pages([0])[: entry.rows].copy()
    # Two clips exchanged, all checksums right: whoever wrote this was wrong.
    entries["place"][[0, 1]] = entries["place"][[1, 0]]
    parquet = root.storage.read(entry.keys[0])
    index = encode_index(entries, bytes.fromhex(entry.name), parquet)
    root.storage.replace(entry.keys[1], bytes(index))
    digest = hashlib.blake2b(index, digest_size=16).hexdigest()
    _refold(filled.path, parts=(replace(entry, index_digest=digest),))
    (finding,) = verify_store(filled.path, quick=True)
    assert (finding.code, finding.place) == ("manifest", entry.keys[1])
    assert "leads to other rows than the part has, 2 times" in finding.message


def test_totals_that_are_wrong_are_an_error(filled) -> None:
    _refold(filled.path, ok=8)
    (finding,) = verify_store(filled.path, quick=True)
    assert finding.message == "tells of 10 clips, 8 of them ok, but has 10 and 9"


def test_parts_of_earlier_versions_are_verified_too(filled, write_clips_of: Write) -> None:
    root = read_root(filled.path)
    with StoreWriter(filled.path, filled.identity) as writer:
        for clip_id in "wxyz":
            write_clips_of(writer, [clip_id])
            writer.compact()
    first = read_version(root, 2).parts[-1]
    assert first not in read_version(root).parts
    _flip(filled.path / first.keys[0])
    (finding,) = verify_store(filled.path, quick=True)
    assert (finding.code, finding.place) == ("manifest", first.keys[0])
    assert open_store(filled.path).outcome("c1").backend == "pyav 18.1.0"
