"""Folding: whatever the order and the size of the folds, each clip has the row that the rule names."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache_schema import (
    BlockClaim,
    ClipOutcome,
    CorruptStore,
    FeatureIdentity,
    InputError,
    Status,
    create_store,
    open_store,
    verify_store,
)
from cache_schema.blocks.block_commit import BlockCommit, CommittedClip, FileSeal
from cache_schema.layout import COMMITS
from cache_schema.manifest import manifest_fold, part_merge
from cache_schema.manifest.manifest_fold import fold_commits
from cache_schema.manifest.manifest_version import newest_version, read_version, record_key
from cache_schema.manifest.part_merge import FANOUT, LARGEST, SETTLED, merge_from
from cache_schema.storage.local_storage import LocalStorage
from cache_schema.store_root import StoreRoot, read_root

BLOCK_SLOTS, SEGMENT_BLOCKS = 4, 4


class Entry(NamedTuple):
    """One clip of one commit."""

    clip_id: str
    ok: bool


class Block(NamedTuple):
    """One commit."""

    address: int
    replaces: bool
    entries: tuple[Entry, ...]


def _commit(root: StoreRoot, block: Block) -> None:
    segment, number = divmod(block.address, SEGMENT_BLOCKS)
    claim = BlockClaim(
        segment=segment,
        block=number,
        clip_ids=tuple(entry.clip_id for entry in block.entries),
        job="j",
        token="0" * 16,
        replaces=block.replaces,
    )
    seal = FileSeal(bytes=1, digest="0" * 32)
    clips = []
    for rank, (clip_id, ok) in enumerate(block.entries):
        # The detail tells which commit a row is from.
        told = {"status": Status.FAILED, "reason": "io", "detail": str(block.address)}
        if ok:
            frames = {"frame_index": np.arange(5), "frame_time": np.arange(5) / 7}
            told = {
                "status": Status.OK,
                "distinct_frames": 5,
                "backend": str(block.address),
                **frames,
            }
        slot = number * BLOCK_SLOTS + rank if ok else -1
        outcome = ClipOutcome(clip_id=clip_id, **told)
        clips.append(CommittedClip(outcome=outcome, slot=slot, patch=seal if ok else None))
    cls_file = seal if any(entry.ok for entry in block.entries) else None
    commit = BlockCommit.of_claim(claim, job="j", cls_file=cls_file, clips=tuple(clips))
    assert root.storage.create(f"{COMMITS}/{claim.name}", commit.encode())


def _told(root: StoreRoot) -> dict[str, tuple[int, bool]]:
    """Which commit each clip's row is from, by the table; looking up must say the same."""
    store = open_store(root.storage.location)
    rows = store.manifest().to_pylist()
    told = {
        row["clip_id"]: (int(row["backend"] or row["detail"]), row["status"] == "ok")
        for row in rows
    }
    assert [row["clip_id"] for row in rows] == sorted(told)
    assert store.rows(list(told)).to_pylist() == rows
    found = store._manifest.index.find([*told, "nobody"])
    blocks = (found.segment * SEGMENT_BLOCKS + found.block).tolist()
    assert list(zip(blocks, found.ok.tolist(), strict=True))[:-1] == list(told.values())
    assert (found.part[-1], found.slot[-1]) == (-1, -1)
    assert found.replaces.tolist()[:-1] == [row["replaces"] for row in rows]
    assert store.clip_ids == [clip_id for clip_id, (_, ok) in told.items() if ok]
    assert len(store) == len(store.clip_ids)
    return told


def _expected(blocks: Sequence[Block]) -> dict[str, tuple[int, bool]]:
    """The rule, clip by clip: nothing below the last replacement counts, then the lowest ok, or the
    highest failure."""
    expected = {}
    for clip_id in {entry.clip_id for block in blocks for entry in block.entries}:
        said = [
            (block.address, entry.ok, block.replaces)
            for block in blocks
            for entry in block.entries
            if entry.clip_id == clip_id
        ]
        floor = max((address for address, _, replaces in said if replaces), default=0)
        counting = [(address, ok) for address, ok, _ in said if address >= floor]
        good = sorted(row for row in counting if row[1])
        expected[clip_id] = good[0] if good else max(counting)
    return expected


clips = st.lists(
    st.builds(Entry, st.sampled_from("abcdefg"), st.booleans()),
    max_size=BLOCK_SLOTS,
    unique_by=lambda entry: entry.clip_id,
)
blocks = st.lists(st.tuples(st.booleans(), clips), min_size=1, max_size=12).map(
    lambda drawn: [
        Block(address, replaces and bool(entries), tuple(entries))
        for address, (replaces, entries) in enumerate(drawn)
    ]
)


@pytest.fixture
def new_root(tmp_path: Path, identity: FeatureIdentity) -> Iterator[Callable[[], StoreRoot]]:
    counter = itertools.count()

    def make() -> StoreRoot:
        path = tmp_path / f"store-{next(counter)}"
        create_store(
            path, identity, block_slots=BLOCK_SLOTS, segment_slots=BLOCK_SLOTS * SEGMENT_BLOCKS
        )
        return read_root(path)

    return make


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(blocks=blocks, data=st.data())
def test_folds_of_any_size_make_what_the_rule_says(
    new_root: Callable[[], StoreRoot], blocks: list[Block], data: st.DataObject
) -> None:
    root = new_root()
    for done, block in enumerate(blocks, start=1):
        _commit(root, block)
        if data.draw(st.booleans()):
            fold_commits(root)
            assert _told(root) == _expected(blocks[:done])
    fold_commits(root)
    assert _told(root) == _expected(blocks)
    version = read_version(root)
    assert list(version.blocks) == [block.address for block in blocks]
    findings = verify_store(root.storage.location, quick=True)
    assert [finding for finding in findings if finding.code == "manifest"] == []


def test_many_commits_are_folded_in_steps(
    new_root: Callable[[], StoreRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest_fold, "CLIPS_AT_ONCE", 3)
    told = [
        Block(address, False, (Entry("a", False), Entry(f"{address}", True)))
        for address in range(5)
    ]
    root = new_root()
    for block in told:
        _commit(root, block)
    assert fold_commits(root) == 3
    assert _told(root) == _expected(told)
    assert list(read_version(root, 1).blocks) == [0, 1]


class Late(NamedTuple):
    """A commit that is folded after one of a higher address."""

    first: Block
    second: Block
    winner: int


a_ok, a_failed = (Entry("a", True),), (Entry("a", False),)


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Late(Block(5, False, a_ok), Block(3, False, a_ok), 5), id="seen-ok-stays"),
        pytest.param(
            Late(Block(5, False, a_failed), Block(3, False, a_ok), 3), id="ok-over-failed"
        ),
        pytest.param(
            Late(Block(5, False, a_failed), Block(3, False, a_failed), 5), id="later-failure"
        ),
        pytest.param(
            Late(Block(5, True, a_failed), Block(3, False, a_ok), 5), id="replaced-by-failure"
        ),
        pytest.param(Late(Block(5, True, a_ok), Block(3, True, a_ok), 5), id="higher-replacement"),
        pytest.param(Late(Block(3, False, a_ok), Block(5, True, a_ok), 5), id="replaced"),
        pytest.param(
            Late(Block(3, True, a_failed), Block(5, False, a_ok), 5), id="ok-after-failed"
        ),
        pytest.param(Late(Block(3, True, a_ok), Block(5, False, a_ok), 3), id="lower-ok-stays"),
    ],
)
def test_a_late_commit_does_what_its_address_says(
    new_root: Callable[[], StoreRoot], case: Late
) -> None:
    root = new_root()
    for version, block in enumerate([case.first, case.second], start=1):
        _commit(root, block)
        assert fold_commits(root) == version
    assert _told(root)["a"][0] == case.winner
    # The gaps that a late commit filled are looked up again, the others are not forgotten.
    assert list(read_version(root).blocks) == [3, 5]
    _commit(root, Block(0, False, (Entry("b", True),)))
    assert fold_commits(root) == 3
    assert _told(root).keys() == {"a", "b"}


def _simulate(folds: Sequence[int]) -> tuple[list[int], int]:
    """Sizes of the parts after some folds of new clips, and the rows copied on the way."""
    rows: list[int] = []
    copied = 0
    for fold in folds:
        begin = merge_from([*rows, fold])
        if begin < len(rows):
            copied += sum(rows[begin:])
            rows[begin:] = [sum(rows[begin:]) + fold]
        else:
            rows.append(fold)
    return rows, copied


@pytest.mark.parametrize(
    ("folds", "parts", "copies"),
    [
        pytest.param([1000] * 11_000, 25, 6, id="a-thousand-each"),
        pytest.param([32_768] * 340, 20, 4, id="as-large-as-a-fold-gets"),
        pytest.param([7] * 30_000, 30, 9, id="seven-each"),
        pytest.param([1, 40_000, 3, 900] * 600, 45, 6, id="mixed"),
    ],
)
def test_parts_stay_few_and_rows_are_copied_seldom(
    folds: list[int], parts: int, copies: float
) -> None:
    rows, copied = _simulate(folds)
    assert sum(rows) == sum(folds)
    assert len(rows) <= parts
    assert copied / sum(folds) <= copies
    assert max(rows) < LARGEST + max(folds)
    # What is settled is not small: ten million clips are ten to twenty parts.
    assert sum(count < SETTLED for count in rows) < parts


def test_a_merge_takes_the_newest_parts_only() -> None:
    assert merge_from([5]) == 1
    assert merge_from([5] * (FANOUT - 1)) == FANOUT - 1
    assert merge_from([5] * FANOUT) == 0
    assert merge_from([900, 5, 5, 5, 5]) == 1
    assert merge_from([SETTLED, 300_000, 300_000, 300_000, 300_000]) == 1
    assert merge_from([SETTLED] * 8) == 8
    # Small parts before a larger one wait until that is merged.
    assert merge_from([5, 5, 5, 900, 5]) == 5


def test_merged_parts_tell_the_same(
    new_root: Callable[[], StoreRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_merge, "ROW_GROUP", 3)
    root, told = new_root(), []
    for address in range(18):
        entries = tuple(Entry(f"c{(address * 3 + n) % 40}", address % 3 > 0) for n in range(4))
        told.append(Block(address, address % 7 == 3, entries))
        _commit(root, told[-1])
        assert fold_commits(root) == address + 1
        assert _told(root) == _expected(told)
    assert len(read_version(root).parts) < 8
    # Who is pinned to an earlier version still reads its parts.
    for version in (1, 5, 14):
        path = root.storage.location
        ids = open_store(path, version=version).manifest(["clip_id"]).column(0).to_pylist()
        assert ids == sorted(_expected(told[:version]))


class _Counting(LocalStorage):
    """A folder that tells what is asked of it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[str] = []
        self.bytes = 0

    def read(self, key: str) -> bytes:
        self.asked.append(key)
        return super().read(key)

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        self.bytes += sum(size for _, size in ranges)
        return super().read_ranges(key, ranges)

    def names(self, folder: str, *, after: str = "") -> list[str]:
        self.asked.append(f"{folder} after {after}")
        return super().names(folder, after=after)


def _counting(root: StoreRoot) -> tuple[StoreRoot, _Counting]:
    import dataclasses

    storage = _Counting(Path(root.storage.location))
    return dataclasses.replace(root, storage=storage), storage


def test_a_fold_costs_what_is_new(new_root: Callable[[], StoreRoot]) -> None:
    root = new_root()
    for address in range(80):
        entries = tuple(Entry(f"c{address}-{n}", True) for n in range(4))
        _commit(root, Block(address, False, entries))
    fold_commits(root)
    (base,) = read_version(root).parts
    assert base.rows == 320
    _commit(root, Block(80, False, (Entry("new", True), Entry("c7-1", True))))
    counted, storage = _counting(root)
    assert fold_commits(counted) == 2
    commits = [key for key in storage.asked if key.startswith(COMMITS)]
    # One listing that starts behind what was folded before it, and another that finds no more.
    assert commits == [
        "commits after 000019.000003.json",
        "commits/000020.000000.json",
        "commits after 000020.000000.json",
    ]
    # The head, and the pages of two ids.
    assert storage.bytes <= 2048 * 5
    assert [part.rows for part in read_version(root).parts] == [320, 1]


class _Lossy(LocalStorage):
    """A server that does what it was asked, and does not say so."""

    def create(self, key: str, content: bytes, *, sync_name: bool = True) -> bool:
        made = super().create(key, content, sync_name=sync_name)
        return made and not key.endswith(".json")


def test_a_version_made_without_an_answer_keeps_its_parts(new_root: Callable) -> None:
    import dataclasses

    root = new_root()
    _commit(root, Block(0, False, a_ok))
    lossy = dataclasses.replace(root, storage=_Lossy(Path(root.storage.location)))
    assert fold_commits(lossy) == 1
    assert _told(root) == {"a": (0, True)}


def test_who_comes_second_leaves_nothing_behind(
    new_root: Callable[[], StoreRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = new_root()
    _commit(root, Block(0, False, a_ok))
    publish = manifest_fold.publish_version

    def overtaken(root: StoreRoot, version: object) -> bool:
        monkeypatch.setattr(manifest_fold, "publish_version", publish)
        assert fold_commits(root) == 1
        return publish(root, version)

    monkeypatch.setattr(manifest_fold, "publish_version", overtaken)
    assert fold_commits(root) == 1
    names = root.storage.names("manifest")
    assert len(names) == 4
    (part,) = read_version(root).parts
    assert {key.removeprefix("manifest/") for key in part.keys} < set(names)


def test_a_compactor_that_died_leaves_only_litter(
    new_root: Callable[[], StoreRoot], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = new_root()
    _commit(root, Block(0, False, a_ok))
    create = LocalStorage.create

    def die(self: LocalStorage, key: str, content: bytes, *, sync_name: bool = True) -> bool:
        if key.endswith(".json"):
            raise OSError(28, "no space left")
        return create(self, key, content, sync_name=sync_name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "create", die)
        with pytest.raises(OSError, match="no space"):
            fold_commits(root)
    assert newest_version(root.storage) == 0
    assert open_store(root.storage.location).clip_ids == []
    assert fold_commits(root) == 1
    assert _told(root) == {"a": (0, True)}


def test_versions_that_were_collected_are_named(new_root: Callable[[], StoreRoot]) -> None:
    root = new_root()
    for address in range(4):
        _commit(root, Block(address, False, (Entry(str(address), True),)))
        fold_commits(root)
    for version in (1, 3):
        root.storage.delete(record_key(version))
    path = root.storage.location
    assert open_store(path).version == 4
    assert open_store(path, version=2).clip_ids == ["0", "1"]
    with pytest.raises(InputError, match=r"no manifest version 3; it has 0 and \[2, 4\]"):
        open_store(path, version=3)
    # Without CURRENT, the newest record there is.
    root.storage.delete("manifest/CURRENT")
    assert newest_version(root.storage) == 4
    root.storage.delete(record_key(4))
    assert newest_version(root.storage) == 2


def test_blocks_without_clips_make_a_version_without_a_part(
    new_root: Callable[[], StoreRoot],
) -> None:
    root = new_root()
    _commit(root, Block(0, False, ()))
    assert fold_commits(root) == 1
    assert read_version(root).parts == ()
    assert open_store(root.storage.location).manifest().num_rows == 0
    _commit(root, Block(1, False, a_ok))
    assert fold_commits(root) == 2
    assert _told(root) == {"a": (1, True)}


def test_a_damaged_part_stops_a_fold(new_root: Callable[[], StoreRoot]) -> None:
    root = new_root()
    _commit(root, Block(0, False, a_ok))
    fold_commits(root)
    (part,) = read_version(root).parts
    file = root.storage.local_file(part.keys[1])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    _commit(root, Block(1, False, a_ok))
    with pytest.raises(CorruptStore, match="page 0 fails its checksum"):
        fold_commits(root)
    assert newest_version(root.storage) == 1
