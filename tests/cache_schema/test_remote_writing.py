"""Writing into an object store: races, claims, creation and cut connections lose nothing."""

import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from cache_schema import (
    CorruptStore,
    FeatureIdentity,
    IdentityMismatch,
    StoreAbsent,
    StoreForeign,
    StoreUnreachable,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.blocks.block_claim import ClaimRecord
from cache_schema.blocks.process_owner import ProcessOwner
from cache_schema.storage import object_storage
from cache_schema.storage.storage import open_storage

Write = Callable[..., None]
PATCH = "seg-000000/patch/c.1.0.0.0"
RemoteStore = Any
"""A ``conftest.RemoteStore``."""


_RACE = """
import sys, conftest, cache_schema
identity = conftest.make_identity()
cache_schema.create_store(sys.argv[1], identity, block_slots=4, segment_slots=8)
written = []
with cache_schema.StoreWriter(sys.argv[1], identity, job=sys.argv[2]) as writer:
    while pending := writer.pending([f"c{number:02d}" for number in range(24)]):
        claim = writer.claim(pending[:4])
        if claim is None:
            continue
        conftest.write_claimed(writer, claim, attempt=int(sys.argv[2]))
        written += claim.clip_ids
    writer.compact()
print(*written)
"""


def test_racing_writers_share_the_clips_and_lose_none(
    bucket_url: str,
    identity: FeatureIdentity,
    features: Callable,
    run_python: Callable[..., subprocess.Popen[str]],
) -> None:
    jobs = [run_python(_RACE, bucket_url, number) for number in range(2)]
    written = [job.communicate(timeout=120)[0].split() for job in jobs]
    ids = [f"c{number:02d}" for number in range(24)]
    assert [job.returncode for job in jobs] == [0, 0]
    assert sorted(clip_id for part in written for clip_id in part) == ids
    store = open_store(bucket_url)
    assert store.clip_ids == ids
    for attempt, clip_ids in enumerate(written):
        for clip_id in clip_ids:
            np.testing.assert_array_equal(
                store.read_patches([clip_id])[0], features(clip_id, identity, attempt)[1]
            )
    assert [f for f in verify_store(bucket_url) if f.severity != "notice"] == []


def test_a_claim_of_another_machine_lives_by_the_servers_clock(
    bucket_url: str, identity: FeatureIdentity
) -> None:
    create_store(bucket_url, identity, block_slots=4, segment_slots=8)
    storage = open_storage(bucket_url)
    with StoreWriter(bucket_url, identity) as owner:
        claim = owner.claim(["a"])
        elsewhere = ProcessOwner(host="elsewhere", pid=1, pid_start="1")
        record = ClaimRecord(claim=claim, owner=elsewhere)
        storage.replace(f"claims/{claim.name}", record.encode())
        with StoreWriter(bucket_url, identity, lease_s=60) as writer:
            assert writer.pending(["a"]) == []
        time.sleep(3.2)
        assert storage.age_s(f"claims/{claim.name}") > 2
        owner.beat()
        assert storage.age_s(f"claims/{claim.name}") < 2
        time.sleep(3.2)
        with StoreWriter(bucket_url, identity, lease_s=2) as writer:
            assert writer.pending(["a"]) == ["a"]


def test_absent_foreign_and_other_are_told_apart(
    bucket_url: str, make_identity: Callable[..., FeatureIdentity]
) -> None:
    with pytest.raises(StoreAbsent):
        open_store(bucket_url)
    storage = open_storage(bucket_url)
    storage.create("notes.txt", b"mine")
    for call in (open_store, partial(create_store, identity=make_identity())):
        with pytest.raises(StoreForeign, match=r"notes\.txt"):
            call(bucket_url)
    storage.delete("notes.txt")
    create_store(bucket_url, make_identity(), block_slots=4, segment_slots=8)
    with pytest.raises(IdentityMismatch, match="precision"):
        create_store(bucket_url, make_identity(precision="bf16"))


def test_a_creation_that_died_after_the_root_is_finished_by_the_first_claim(
    bucket_url: str, identity: FeatureIdentity, write_clips_of: Write
) -> None:
    create_store(bucket_url, identity, block_slots=4, segment_slots=8)
    storage = open_storage(bucket_url)
    made = {file.key: storage.read(file.key) for file in storage.walk()}
    for key in made:
        if key != "zarr.json":
            storage.delete(key)
    assert len(open_store(bucket_url)) == 0
    with StoreWriter(bucket_url, identity) as writer:
        write_clips_of(writer, ["a"])
        writer.compact()
    assert {key: storage.read(key) for key in made} == made
    assert verify_store(bucket_url) == []
    storage.delete("seg-000000/patch/zarr.json")
    with pytest.raises(CorruptStore, match=r"patch/zarr\.json: is missing"):
        open_store(bucket_url)


def test_a_connection_cut_while_sending_leaves_nothing_half(
    bucket_url: str,
    cutting_proxy,
    make_identity: Callable[..., FeatureIdentity],
    write_clips_of: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    identity = make_identity(patches=64, dim=256)  # 164 KB a clip: sent in several pieces
    create_store(bucket_url, identity, block_slots=2, segment_slots=4)
    with StoreWriter(bucket_url, identity) as writer:
        # Cut twice, it is sent a third time.
        cutting_proxy.arm(60_000, times=2)
        write_clips_of(writer, ["a", "b"])
        assert cutting_proxy.cuts == 2
        # What arrived, though its answer was lost, counts as sent.
        cutting_proxy.arm(60_000, times=1, answers=True)
        write_clips_of(writer, ["c", "d"])
        assert cutting_proxy.cuts == 1
        # Cut for good, the block fails and nothing of it shows.
        monkeypatch.setattr(object_storage, "_WAITS_S", (0.0,))
        cutting_proxy.arm(60_000, times=10**6)
        with pytest.raises(StoreUnreachable, match=r"patch/c\.0\.0\.0\.0"):
            write_clips_of(writer, ["e", "f"])
        storage = open_storage(bucket_url)
        assert storage.names("seg-000001/patch") == ["zarr.json"]
        assert storage.names("seg-000001/cls") == ["zarr.json"]
        assert writer.compact() == 1
    assert open_store(bucket_url).clip_ids == ["a", "b", "c", "d"]
    cutting_proxy.arm(60_000, times=0)
    with StoreWriter(bucket_url, identity) as writer:
        assert writer.pending(list("abcdef")) == ["e", "f"]
        write_clips_of(writer, ["e", "f"])
        writer.compact()
    assert open_store(bucket_url).clip_ids == list("abcdef")
    assert verify_store(bucket_url) == []
