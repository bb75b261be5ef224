"""Writing: what is accepted, what is refused, and who keeps a clip that two jobs want."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import (
    BlockClaim,
    ClipOutcome,
    CorruptStore,
    FeatureIdentity,
    InputError,
    NonFiniteFeatures,
    StoreBusy,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.blocks import block_ledger
from cache_schema.blocks.block_claim import ClaimRecord, read_claim
from cache_schema.blocks.process_owner import ProcessOwner
from cache_schema.sealed_json import seal
from cache_schema.storage.local_storage import LocalStorage
from cache_schema.storage.storage import open_storage

Make = Callable[..., ClipOutcome]
IDS = [f"c{number}" for number in range(10)]


def _block(
    claim: BlockClaim, identity: FeatureIdentity, ok: Make
) -> tuple[list, np.ndarray, np.ndarray]:
    count = len(claim.clip_ids)
    shape = (count, identity.frames, identity.patches, identity.dim)
    patch = np.arange(np.prod(shape), dtype=np.float16).reshape(shape)
    return [ok(clip_id) for clip_id in claim.clip_ids], patch[:, :, 0], patch


def _data_files(store: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(store.glob("seg-*/*/c.*"))}


def test_a_clip_is_pending_until_it_is_claimed_or_done(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        assert writer.pending(["b", "a", "b"]) == ["b", "a"]
        claim = writer.claim(["b"])
        assert writer.pending(["b", "a"]) == ["a"]
        writer.write_block(claim, *_block(claim, identity, ok_outcome))
        assert writer.pending(["b", "a"]) == ["a"]
    with StoreWriter(empty_store, identity) as other:
        assert other.pending(["b", "a"]) == ["a"]
        assert other.compact() == 1
    with StoreWriter(empty_store, identity) as third:
        assert third.pending(["b", "a"]) == ["a"]
        assert third.claim(["b"]) is None


def test_a_failed_clip_is_pending_only_for_a_retry(
    empty_store: Path,
    identity: FeatureIdentity,
    ok_outcome: Make,
    write_clips_of: Callable[..., None],
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ["a", "b"], failed=("a",))
        assert writer.pending(["a", "b"]) == []
        assert writer.pending(["a", "b"], retry_failed=True) == ["a"]
        assert len(list(empty_store.glob("seg-*/patch/c.*"))) == 1
        write_clips_of(writer, ["a"], attempt=1)
        assert writer.pending(["a", "b"], retry_failed=True) == []
        assert len(list(empty_store.glob("seg-*/patch/c.*"))) == 2


def test_a_block_of_failures_has_no_data(
    empty_store: Path, identity: FeatureIdentity, write_clips_of: Callable[..., None]
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ["a", "b"], failed=("a", "b"))
        writer.compact()
    assert _data_files(empty_store) == {}
    assert open_store(empty_store).clip_ids == []
    assert open_store(empty_store).outcome("a").reason == "truncated"
    assert verify_store(empty_store) == []


@pytest.mark.parametrize("clip_ids", [[], ["a"] * 2, ["a", "b", "c", "d", "e"]], ids=len)
def test_a_claim_is_for_one_to_a_block_of_different_clips(
    empty_store: Path, identity: FeatureIdentity, clip_ids: list[str]
) -> None:
    with StoreWriter(empty_store, identity) as writer, pytest.raises(InputError, match="1 to 4"):
        writer.claim(clip_ids)


def _wrong_count(outcomes: list, cls: np.ndarray, patch: np.ndarray, _ok: Make) -> tuple:
    return outcomes, cls[:1], patch[:1]


def _wrong_dtype(outcomes: list, cls: np.ndarray, patch: np.ndarray, _ok: Make) -> tuple:
    return outcomes, cls.astype(np.float32), patch


def _wrong_shape(outcomes: list, cls: np.ndarray, patch: np.ndarray, _ok: Make) -> tuple:
    return outcomes, cls, patch[..., :-1]


def _missing_outcome(outcomes: list, cls: np.ndarray, patch: np.ndarray, _ok: Make) -> tuple:
    return outcomes[:1], cls[:1], patch[:1]


def _strange_outcome(outcomes: list, cls: np.ndarray, patch: np.ndarray, ok: Make) -> tuple:
    return [outcomes[0], ok("z")], cls, patch


def _double_outcome(outcomes: list, cls: np.ndarray, patch: np.ndarray, _ok: Make) -> tuple:
    return [outcomes[0], outcomes[0]], cls, patch


def _wrong_frames(outcomes: list, cls: np.ndarray, patch: np.ndarray, ok: Make) -> tuple:
    return [outcomes[0], ok("b", frames=4)], cls, patch


@pytest.mark.parametrize(
    "spoil",
    [
        _wrong_count,
        _wrong_dtype,
        _wrong_shape,
        _missing_outcome,
        _strange_outcome,
        _double_outcome,
        _wrong_frames,
    ],
)
def test_what_does_not_fit_is_refused_and_may_be_offered_again(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make, spoil: Callable[..., tuple]
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a", "b"])
        block = _block(claim, identity, ok_outcome)
        with pytest.raises(InputError):
            writer.write_block(claim, *spoil(*block, ok_outcome))
        assert _data_files(empty_store) == {}
        writer.write_block(claim, *block)


@pytest.mark.parametrize(
    "flaw",
    [("cls", np.nan), ("cls", np.inf), ("patch", np.nan), ("patch", -np.inf)],
    ids=["cls-nan", "cls-inf", "patch-nan", "patch-inf"],
)
def test_features_that_are_not_finite_are_refused(
    empty_store: Path,
    identity: FeatureIdentity,
    ok_outcome: Make,
    failed_outcome: Make,
    flaw: tuple[str, float],
) -> None:
    array, value = flaw
    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a", "b"])
        outcomes, cls, patch = _block(claim, identity, ok_outcome)
        cls = cls.copy()
        {"cls": cls, "patch": patch}[array][1, -1, ..., -1] = value
        with pytest.raises(NonFiniteFeatures, match="the first is 'b'") as caught:
            writer.write_block(claim, outcomes, cls, patch)
        assert caught.value.clip_ids == ["b"]
        assert _data_files(empty_store) == {}
        writer.write_block(claim, [outcomes[0], failed_outcome("b", "nonfinite")], cls, patch)
        writer.compact()
    assert open_store(empty_store).clip_ids == ["a"]
    assert verify_store(empty_store) == []


def test_the_largest_half_is_finite(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a"])
        outcomes, cls, patch = _block(claim, identity, ok_outcome)
        patch[:] = np.array([-65504, 65504, 6e-8, -0.0] * 2, np.float16)
        writer.write_block(claim, outcomes, cls, patch)
        writer.compact()
    np.testing.assert_array_equal(open_store(empty_store).read_patches(["a"]), patch)


def test_a_claim_is_written_once(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a", "b"])
        outcomes, cls, patch = _block(claim, identity, ok_outcome)
        writer.write_block(claim, outcomes, cls, patch)
        before = _data_files(empty_store)
        with pytest.raises(StoreBusy, match="already committed by job"):
            writer.write_block(claim, outcomes, cls + 1, patch + 1)
        assert _data_files(empty_store) == before


def test_a_write_that_failed_halfway_is_not_resumed_but_done_anew(
    empty_store: Path,
    identity: FeatureIdentity,
    ok_outcome: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = LocalStorage.create

    def full_disk(self: LocalStorage, key: str, content: object, **options: bool) -> bool:
        if "/cls/" in key:
            raise OSError(28, "No space left on device")
        return real(self, key, content, **options)

    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a", "b"])
        block = _block(claim, identity, ok_outcome)
        monkeypatch.setattr(LocalStorage, "create", full_disk)
        with pytest.raises(OSError, match="No space"):
            writer.write_block(claim, *block)
        monkeypatch.undo()
        with pytest.raises(StoreBusy, match="is there already"):
            writer.write_block(claim, *block)
        assert writer.pending(["a", "b"]) == []
        writer.abandon(claim)
        assert writer.pending(["a", "b"]) == ["a", "b"]
        again = writer.claim(["a", "b"])
        assert again.block == claim.block + 1
        writer.write_block(again, *block)
        writer.compact()
    np.testing.assert_array_equal(open_store(empty_store).read_patches(["a", "b"]), block[2])
    assert {finding.code for finding in verify_store(empty_store)} == {"uncommitted"}


def test_a_disk_that_lies_is_caught_before_the_commit(
    empty_store: Path,
    identity: FeatureIdentity,
    ok_outcome: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = LocalStorage.create

    def flip(self: LocalStorage, key: str, content: memoryview, **options: bool) -> bool:
        spoiled = bytearray(content)
        spoiled[7] ^= 1
        return real(self, key, bytes(spoiled), **options)

    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a"])
        monkeypatch.setattr(LocalStorage, "create", flip)
        with pytest.raises(CorruptStore, match="reads back differently"):
            writer.write_block(claim, *_block(claim, identity, ok_outcome))
        assert not (empty_store / "commits" / claim.name).exists()


def test_a_zombie_is_refused_and_overwrites_nothing(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make
) -> None:
    with StoreWriter(empty_store, identity, job="zombie") as zombie:
        claim = zombie.claim(["a", "b"])
        _pretend_owner(empty_store, claim, pid_start="1")
        with StoreWriter(empty_store, identity, job="heir") as heir:
            assert heir.pending(["a", "b"]) == ["a", "b"]
            own = heir.claim(["a", "b"])
            heir.write_block(own, *_block(own, identity, ok_outcome))
            heir.compact()
        before = _data_files(empty_store)
        outcomes, cls, patch = _block(claim, identity, ok_outcome)
        with pytest.raises(StoreBusy, match="ended as abandoned by job 'heir'"):
            zombie.write_block(claim, outcomes, cls + 1, patch + 1)
    assert _data_files(empty_store) == before
    assert own.block == claim.block + 1


def test_a_zombie_between_its_data_and_its_commit_is_refused(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LocalStorage.create

    def buried(self: LocalStorage, key: str, content: object, **options: bool) -> bool:
        # Between the data and the commit another job takes the owner for dead.
        if key.startswith("commits/"):
            monkeypatch.undo()
            block_ledger.end_block(self, claim, job="undertaker")
        return real(self, key, content, **options)

    with StoreWriter(empty_store, identity) as zombie:
        claim = zombie.claim(["a"])
        monkeypatch.setattr(LocalStorage, "create", buried)
        with pytest.raises(StoreBusy, match="undertaker"):
            zombie.write_block(claim, *_block(claim, identity, ok_outcome))
        assert zombie.compact() == 1
    assert open_store(empty_store).clip_ids == []


def test_an_owner_that_commits_first_is_not_ended(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a"])
        writer.write_block(claim, *_block(claim, identity, ok_outcome))
        assert not block_ledger.end_block(
            open_storage(empty_store), claim, job="undertaker"
        ).abandoned
        writer.compact()
    assert open_store(empty_store).clip_ids == ["a"]


def _pretend_owner(store: Path, claim: BlockClaim, **changes: object) -> None:
    """Rewrites a claim as if another process had made it."""
    owner = ProcessOwner.current()
    fields = {"host": owner.host, "pid": owner.pid, "pid_start": owner.pid_start, **changes}
    record = ClaimRecord(claim=claim, owner=ProcessOwner(**fields))
    (store / "claims" / claim.name).write_bytes(record.encode())


@pytest.mark.parametrize(
    ("owner", "age_s", "alive"),
    [
        ({}, 10_000, True),
        ({"pid_start": "1"}, 0, False),
        ({"pid": 2**22 - 1, "pid_start": "1"}, 0, False),
        ({"host": "elsewhere"}, 0, True),
        ({"host": "elsewhere"}, 200, True),
        ({"host": "elsewhere"}, 400, False),
        ({"pid_start": ""}, 200, True),
        ({"pid_start": ""}, 400, False),
    ],
    ids=["self", "reused-pid", "gone", "far", "far-late", "far-dead", "unknown", "unknown-dead"],
)
def test_who_is_dead(
    empty_store: Path,
    identity: FeatureIdentity,
    owner: dict[str, object],
    age_s: float,
    alive: bool,
) -> None:
    with StoreWriter(empty_store, identity) as first, StoreWriter(empty_store, identity) as second:
        claim = first.claim(["a"])
        _pretend_owner(empty_store, claim, **owner)
        moment = time.time() - age_s
        os.utime(empty_store / "claims" / claim.name, (moment, moment))
        assert second.pending(["a"]) == ([] if alive else ["a"])
        assert (empty_store / "commits" / claim.name).exists() is not alive


def test_the_heartbeat_keeps_a_claim_young(empty_store: Path, identity: FeatureIdentity) -> None:
    with StoreWriter(empty_store, identity, lease_s=0.5) as writer:
        file = empty_store / "claims" / writer.claim(["a"]).name
        for beat in (lambda: time.sleep(0.6), writer.beat):
            os.utime(file, (0, 0))
            beat()
            assert time.time() - file.stat().st_mtime < 5


def test_leaving_a_writer_gives_its_claims_back(
    empty_store: Path, identity: FeatureIdentity
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        writer.claim(["a"])
    with StoreWriter(empty_store, identity) as writer:
        assert writer.pending(["a"]) == ["a"]


@pytest.mark.parametrize(
    "content", [b"", b"{}", seal({"format": "1"})], ids=["torn", "empty", "odd"]
)
def test_a_damaged_claim_blocks_its_block_and_nothing_else(
    empty_store: Path, identity: FeatureIdentity, content: bytes
) -> None:
    file = empty_store / "claims" / "000000.000000.json"
    file.parent.mkdir()
    file.write_bytes(content)
    assert read_claim(open_storage(empty_store), file.name).owner is None
    with StoreWriter(empty_store, identity) as writer:
        claim = writer.claim(["a"])
        assert (claim.segment, claim.block) == (0, 1)
        os.utime(file, (0, 0))
        writer.pending([])
    assert (empty_store / "commits" / "000000.000000.json").exists()


def test_a_clip_claimed_by_another_meanwhile_is_left_out(
    empty_store: Path, identity: FeatureIdentity, ok_outcome: Make
) -> None:
    with StoreWriter(empty_store, identity) as first, StoreWriter(empty_store, identity) as second:
        wanted = first.pending(["a", "b", "c"])
        other = second.claim(["b"])
        claim = first.claim(wanted)
        assert claim.clip_ids == ("a", "c")
        second.write_block(other, *_block(other, identity, ok_outcome))
        assert first.claim(["b"]) is None


def test_of_two_claims_in_one_moment_the_lower_address_keeps_the_clip(
    empty_store: Path, identity: FeatureIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = block_ledger.BlockLedger.create_claim
    with StoreWriter(empty_store, identity) as first, StoreWriter(empty_store, identity) as second:

        def overtaken(ledger: object, clip_ids: list[str], **options: object) -> ClaimRecord:
            # Just before the first job's claim appears, the second claims one of its clips.
            monkeypatch.undo()
            assert second.claim(["b"]).block == 0
            return real(ledger, clip_ids, **options)

        monkeypatch.setattr(block_ledger.BlockLedger, "create_claim", overtaken)
        claim = first.claim(["a", "b"])
        assert (claim.block, claim.clip_ids) == (1, ("a",))
        assert read_claim(open_storage(empty_store), claim.name).claim == claim
        assert second.pending(["a", "b"]) == []


def test_a_claim_that_lost_all_its_clips_is_ended(
    empty_store: Path, identity: FeatureIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = block_ledger.BlockLedger.create_claim
    with StoreWriter(empty_store, identity) as first, StoreWriter(empty_store, identity) as second:

        def overtaken(ledger: object, clip_ids: list[str], **options: object) -> ClaimRecord:
            monkeypatch.undo()
            second.claim(["a"])
            return real(ledger, clip_ids, **options)

        monkeypatch.setattr(block_ledger.BlockLedger, "create_claim", overtaken)
        assert first.claim(["a"]) is None
        assert (empty_store / "commits" / "000000.000001.json").exists()


def test_a_claim_of_another_store_is_refused(
    empty_store: Path, tmp_path: Path, identity: FeatureIdentity, ok_outcome: Make
) -> None:
    create_store(tmp_path / "other", identity, block_slots=4, segment_slots=8)
    with (
        StoreWriter(empty_store, identity) as writer,
        StoreWriter(tmp_path / "other", identity) as other,
    ):
        claim = writer.claim(["a"])
        with pytest.raises(StoreBusy, match="is not claimed by this claim"):
            other.write_block(claim, *_block(claim, identity, ok_outcome))
        other.claim(["a"])
        with pytest.raises(StoreBusy, match="is not claimed by this claim"):
            other.write_block(claim, *_block(claim, identity, ok_outcome))


def test_blocks_run_on_into_the_next_segment(
    empty_store: Path, identity: FeatureIdentity, write_clips_of: Callable[..., None]
) -> None:
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, IDS)
    places = sorted(file.name for file in (empty_store / "commits").iterdir())
    assert places == ["000000.000000.json", "000000.000001.json", "000001.000000.json"]


def test_only_an_imported_store_may_lack_its_frames(
    tmp_path: Path, make_identity: Callable, ok_outcome: Callable, features: Callable
) -> None:
    outcome = ok_outcome("c", frame_index=None, frame_time=None)
    for source in ({}, {"source": "imported", "origin": "elsewhere"}):
        identity = make_identity(**source)
        create_store(tmp_path / identity.name, identity, block_slots=4, segment_slots=8)
        cls, patch = features("c", identity)
        with StoreWriter(tmp_path / identity.name, identity) as writer:
            claim = writer.claim(["c"])
            assert claim is not None
            if source:
                writer.write_block(claim, [outcome], cls[None], patch[None])
            else:
                with pytest.raises(InputError, match="does not tell its frames"):
                    writer.write_block(claim, [outcome], cls[None], patch[None])


def test_ids_are_in_no_files_name(
    empty_store: Path, identity: FeatureIdentity, write_clips_of: Callable[..., None]
) -> None:
    ids = ["..", "/abs", "a/b", "A/B", "-dash", ".hidden", "ü", "u\u0308", "x" * 200]
    with StoreWriter(empty_store, identity) as writer:
        write_clips_of(writer, ids)
        writer.compact()
    store = open_store(empty_store)
    assert store.clip_ids == sorted(ids)
    assert len(store.read_cls(ids)) == len(ids)
    # So neither separators nor letters of one case, nor their number, matter to a file system.
    names = [file.name for file in empty_store.rglob("*") if not file.name.startswith("part-")]
    allowed = r"[0-9.]+json|c[0-9.]+|v[0-9]+\.json|seg-[0-9]+|CURRENT|zarr\.json|[a-z]+"
    assert [name for name in names if re.fullmatch(allowed, name) is None] == []
