"""Any order of writing, dying, folding, pinning, collecting and reading, against a dictionary."""

import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cache_schema import (
    FeatureIdentity,
    InputError,
    Status,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.blocks import process_owner
from cache_schema.blocks.block_claim import LEASE_S
from cache_schema.storage.local_storage import LocalStorage
from cache_schema.store_root import read_root
from cache_schema.upkeep.gc import collect
from cache_schema.upkeep.pins import pin_version, read_pins, unpin
from cache_schema.upkeep.repair import repair_store

IDS = [f"c{number}" for number in range(9)]
some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=4, unique=True)


class _Death(BaseException):
    """The end of the process that writes."""


class _Known(NamedTuple):
    """What the store must say of a clip."""

    ok: bool
    attempt: int


class StoreMachine(RuleBasedStateMachine):
    """A store, and what it must say at each version of its manifest."""

    def __init__(
        self, identity: FeatureIdentity, features: Callable, write_claimed: Callable
    ) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        # A process that ends loses nothing that the kernel has.
        self._real_fsync = os.fsync
        os.fsync = lambda _descriptor: None
        self.path = Path(self._folder.name, "store")
        self.identity = identity
        self.features = features
        self.write_claimed = write_claimed
        self.committed: dict[str, _Known] = {}
        self.versions: dict[int, dict[str, _Known]] = {0: {}}
        self.attempt = 0
        self.process = 0
        self._real_start = process_owner._start_of
        # A claim belongs to its process, which dies here more than once.
        process_owner._start_of = lambda _pid: f"process {self.process}"
        create_store(self.path, identity, block_slots=4, segment_slots=8)
        self.writer = StoreWriter(self.path, identity)

    def teardown(self) -> None:
        self.writer.close()
        wrong = [str(f) for f in verify_store(self.path) if f.severity != "notice"]
        process_owner._start_of = self._real_start
        os.fsync = self._real_fsync
        self._folder.cleanup()
        assert wrong == []

    @rule(ids=some_ids, failed=st.booleans(), retry=st.booleans())
    def write(self, ids: list[str], failed: bool, retry: bool) -> None:
        self._write(ids, failed=failed, retry=retry)

    @rule(ids=some_ids, failed=st.booleans())
    def replace(self, ids: list[str], failed: bool) -> None:
        self.attempt += 1
        claim = self.writer.claim(ids, replace=True)
        assert claim.clip_ids == tuple(ids)
        self.write_claimed(self.writer, claim, ids[:1] if failed else (), self.attempt)
        self._commit(ids, ids[:1] if failed else [])

    @rule(ids=some_ids, steps=st.integers(0, 8))
    def die_while_writing(self, ids: list[str], steps: int) -> None:
        real, left = LocalStorage.create, [steps]

        def create(storage: LocalStorage, key: str, *arguments: object, **options: object) -> bool:
            if left[0] == 0:
                raise _Death
            left[0] -= 1
            return real(storage, key, *arguments, **options)

        before = set(self.path.glob("commits/0*"))
        LocalStorage.create = create
        try:
            self._write(ids, failed=False, retry=False)
        except _Death:
            # Only the commit makes the block exist, and it is the last thing that is written; on
            # the way a writer may end the claims of the dead.
            new = set(self.path.glob("commits/0*")) - before
            assert all(json.loads(file.read_bytes())["abandoned"] for file in new)
        finally:
            LocalStorage.create = real
        self._die()

    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self.writer = StoreWriter(self.path, self.identity)

    @rule()
    def compact(self) -> None:
        version = self.writer.compact()
        if self.committed or version:
            self.versions[version] = dict(self.committed)

    @precondition(lambda self: max(self.versions) > 0)
    @rule(name=st.sampled_from("ab"), data=st.data())
    def pin(self, name: str, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(sorted(set(self.versions) - {0})))
        root = read_root(self.path)
        if name in {pin.name for pin in read_pins(root.storage)}:
            with pytest.raises(InputError):
                pin_version(root, name, version)
            unpin(root, name)
        else:
            pin_version(root, name, version)

    @rule()
    def collect(self) -> None:
        then = time.time() - 2 * LEASE_S
        for file in self.path.rglob("*"):
            if file.is_file():
                os.utime(file, (then, then))
        plan = collect(self.path, older_than_s=LEASE_S)
        pinned = {pin.version for pin in read_pins(read_root(self.path).storage)}
        kept = {max(self.versions), 0} | pinned
        assert set(plan.kept_versions) == kept - {0}
        self.versions = {number: self.versions[number] for number in kept}

    @rule()
    def repair(self) -> None:
        report = repair_store(self.path)
        assert report.left == ()
        assert report.done == ()

    @rule()
    def read(self) -> None:
        for number, known in self.versions.items():
            store = open_store(self.path, number)
            assert store.clip_ids == sorted(clip for clip, k in known.items() if k.ok)
            rows = store.manifest(["clip_id", "status"]).to_pylist()
            assert {row["clip_id"]: row["status"] == Status.OK for row in rows} == {
                clip_id: clip.ok for clip_id, clip in known.items()
            }
            for clip_id in store.clip_ids:
                cls, patch = self.features(clip_id, self.identity, known[clip_id].attempt)
                np.testing.assert_array_equal(store.read_cls([clip_id])[0], cls)
                np.testing.assert_array_equal(store.read_patches([clip_id])[0], patch)

    def _write(self, ids: list[str], *, failed: bool, retry: bool) -> None:
        self.attempt += 1
        pending = self.writer.pending(ids, retry_failed=retry)
        assert pending == [
            clip_id
            for clip_id in ids
            if clip_id not in self.committed or (retry and not self.committed[clip_id].ok)
        ]
        if pending:
            claim = self.writer.claim(pending)
            assert claim.clip_ids == tuple(pending)
            self.write_claimed(self.writer, claim, pending[:1] if failed else (), self.attempt)
            self._commit(pending, pending[:1] if failed else [])

    def _commit(self, ids: list[str], failed: list[str]) -> None:
        for clip_id in ids:
            self.committed[clip_id] = _Known(clip_id not in failed, self.attempt)

    def _die(self) -> None:
        # Only the thread ends; claims stay as they are.
        self.writer._heartbeat.close()
        self.process += 1
        self.writer = StoreWriter(self.path, self.identity)


@pytest.mark.parametrize(
    "examples", [12, pytest.param(400, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_a_store_says_what_was_written_whatever_came_between(
    examples: int, identity: FeatureIdentity, features: Callable, write_claimed: Callable
) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        partial(StoreMachine, identity, features, write_claimed),
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=checks,
        ),
    )
