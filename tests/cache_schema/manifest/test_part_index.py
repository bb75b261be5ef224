"""The index of a part: what a dictionary would say, or an error; never another clip's row."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_schema.errors import CorruptStore
from cache_schema.manifest.manifest_part import ManifestPart
from cache_schema.manifest.manifest_row import SCHEMA
from cache_schema.manifest.part_index import (
    ENTRY,
    PAGE_BYTES,
    PAGE_ENTRIES,
    IndexSizes,
    decode_head,
    decode_pages,
    encode_index,
    find_entries,
    hash_ids,
    pages_wanted,
)
from cache_schema.manifest.part_writer import NewPart, PartWriter, part_entries
from cache_schema.storage.local_storage import LocalStorage

PART = b"0123456789abcdef"
PARQUET = bytes(200_000)


def _entries(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    entries = np.zeros(len(high), ENTRY)
    entries["high"], entries["low"], entries["row"] = high, low, np.arange(len(high))
    return entries


def _find(index: bytes, rows: int, high: np.ndarray, low: np.ndarray) -> list[int | None]:
    """Looks keys up as a part does, without its files."""
    sizes = IndexSizes(rows, len(PARQUET))
    head = decode_head(bytes(index[: sizes.head_bytes]), sizes, PART)
    numbers = pages_wanted(head, high, low).tolist()
    starts = [sizes.head_bytes + number * PAGE_BYTES for number in numbers]
    pages = [bytes(index[start : start + PAGE_BYTES]) for start in starts]
    found, entries = find_entries(decode_pages(pages, numbers, sizes, PART), high, low)
    return [int(row) if ok else None for ok, row in zip(found, entries["row"], strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.one_of(
        st.sampled_from([1, PAGE_ENTRIES - 1, PAGE_ENTRIES, PAGE_ENTRIES + 1, 3 * PAGE_ENTRIES]),
        st.integers(1, 700),
    ),
    asked=st.lists(st.integers(0, 1400), max_size=50),
)
def test_an_index_is_a_dictionary(rows: int, asked: list[int]) -> None:
    ids = [f"clip-{number}" for number in range(rows)]
    index = encode_index(_entries(*hash_ids(ids)), PART, PARQUET)
    high, low = hash_ids(f"clip-{number}" for number in asked)
    assert _find(index, rows, high, low) == [n if n < rows else None for n in asked]


@pytest.mark.parametrize("begin", [0, PAGE_ENTRIES - 3, 2 * PAGE_ENTRIES], ids=str)
@pytest.mark.parametrize("same", [2, 5, PAGE_ENTRIES + 7])
def test_keys_with_one_upper_half_are_told_apart(begin: int, same: int) -> None:
    """What two ids of ten million share once in a hundred thousand stores, and an attacker at will."""
    rng = np.random.default_rng(begin)
    high = np.sort(rng.integers(0, 2**63, 4 * PAGE_ENTRIES, dtype=np.uint64))
    high[begin : begin + same] = high[begin]
    low = rng.integers(0, 2**63, len(high), dtype=np.uint64)
    index = encode_index(_entries(high, low), PART, PARQUET)
    assert _find(index, len(high), high, low) == list(range(len(high)))
    assert _find(index, len(high), high, low + np.uint64(1)) == [None] * len(high)


def test_ids_are_hashed_as_the_format_says() -> None:
    import hashlib

    high, low = hash_ids(["clip/é", "\ud800"])
    digest = hashlib.blake2b("clip/é".encode(), digest_size=16).digest()
    assert int(high[0]) == int.from_bytes(digest[:8], "little")
    assert int(low[0]) == int.from_bytes(digest[8:], "little")
    assert high[0] != high[1]


def test_few_ids_without_a_row_need_a_page() -> None:
    rows = 20_000
    index = encode_index(_entries(*hash_ids(map(str, range(rows)))), PART, PARQUET)
    sizes = IndexSizes(rows, len(PARQUET))
    head = decode_head(bytes(index[: sizes.head_bytes]), sizes, PART)
    high, low = hash_ids(f"x{number}" for number in range(1000))
    assert len(pages_wanted(head, high, low)) < 30
    # The filter knows every id that has a row.
    high, low = hash_ids(map(str, range(rows)))
    assert len(pages_wanted(head, high, low)) == sizes.pages


class _Stored(NamedTuple):
    storage: LocalStorage
    new: NewPart
    ids: list[str]

    def find(self, ids: list[str]) -> list[tuple[bool, int]]:
        high, low = hash_ids(ids)
        order = np.argsort(high)
        found, entries = ManifestPart(self.storage, self.new.entry).find(high[order], low[order])
        answers = zip(found.tolist(), entries["row"].tolist(), strict=True)
        return [answer for _, answer in sorted(zip(order.tolist(), answers, strict=True))]


def _store(root: Path, rows: int) -> _Stored:
    ids = [f"c{number:04d}" for number in range(rows)]
    table = SCHEMA.empty_table().from_pylist(
        [
            {
                "clip_id": clip_id,
                "status": "failed" if number % 5 == 2 else "ok",
                "segment": number // 64,
                "block": number % 64 // 4,
                "slot": -1 if number % 5 == 2 else number % 64,
                "replaces": number % 7 == 0,
                "frame_index": [number, number + 3],
                "frame_time": [number / 7, number / 3],
                "flags": [],
                "source_path": f"{clip_id}.mp4",
            }
            for number, clip_id in enumerate(ids)
        ],
        SCHEMA,
    )
    writer = PartWriter()
    writer.write(table)
    (root / "manifest").mkdir(parents=True)
    stored = _Stored(LocalStorage(root), writer.finish(), ids)
    stored.new.store(stored.storage)
    return stored


@pytest.fixture
def stored(tmp_path: Path) -> _Stored:
    return _store(tmp_path, 130)


def test_a_flipped_byte_of_an_index_is_an_error(stored: _Stored) -> None:
    # Ids enough to touch every page.
    asked = [*stored.ids[::9], "nobody"]
    assert [ok for ok, _ in stored.find(asked)] == [*[True] * (len(asked) - 1), False]
    file = stored.storage.local_file(stored.new.entry.keys[1])
    good = file.read_bytes()
    for position in range(0, len(good), 5):
        spoiled = bytearray(good)
        spoiled[position] ^= 1 << position % 8
        file.write_bytes(spoiled)
        with pytest.raises(CorruptStore) as caught:
            stored.find(asked)
        assert caught.value.file == str(file)


def test_a_flipped_byte_of_the_rows_is_an_error(stored: _Stored) -> None:
    file = stored.storage.local_file(stored.new.entry.keys[0])
    good = file.read_bytes()
    expected = ManifestPart(stored.storage, stored.new.entry).table(SCHEMA.names)
    assert expected.num_rows == 130
    for position in range(0, len(good), 9):
        spoiled = bytearray(good)
        spoiled[position] ^= 1 << position % 8
        file.write_bytes(spoiled)
        with pytest.raises(CorruptStore, match="fails its checksum at byte 0"):
            ManifestPart(stored.storage, stored.new.entry).table(SCHEMA.names)


def test_a_page_of_another_place_or_part_is_refused(tmp_path: Path) -> None:
    stored, other = _store(tmp_path / "a", 130), _store(tmp_path / "b", 130)
    file = stored.storage.local_file(stored.new.entry.keys[1])
    good, foreign = file.read_bytes(), other.storage.read(other.new.entry.keys[1])
    for replaced, page in ((1, good[-PAGE_BYTES:]), (2, foreign[-PAGE_BYTES:])):
        start = len(good) - (3 - replaced) * PAGE_BYTES
        file.write_bytes(good[:start] + page + good[start + PAGE_BYTES :])
        with pytest.raises(CorruptStore, match=f"page {replaced} belongs elsewhere"):
            stored.find(stored.ids)


def test_rows_come_in_the_order_asked_for(tmp_path: Path) -> None:
    stored = _store(tmp_path, 9001)
    part = ManifestPart(stored.storage, stored.new.entry)
    assert part.metadata.num_row_groups == 3
    numbers = np.random.default_rng(0).permutation(9001)[:500]
    for some in (numbers, numbers[:1], np.sort(numbers[numbers < 4096])):
        table = part.rows(some, ["clip_id", "frame_index"])
        assert table.column("clip_id").to_pylist() == [stored.ids[n] for n in some]
        assert table.column("frame_index").to_pylist() == [[n, n + 3] for n in some.tolist()]


def test_an_index_says_what_the_rows_say(stored: _Stored) -> None:
    part = ManifestPart(stored.storage, stored.new.entry)
    entries = np.sort(part.pages(range(part.sizes.pages))[: part.entry.rows], order="row")
    assert (entries == part_entries(part.table(SCHEMA.names), 0)).all()
    rows = part.table(["slot", "block", "replaces"]).to_pylist()
    for entry, row in zip(entries, rows, strict=True):
        slot, block = row["slot"], row["block"]
        assert int(entry["place"]) == (slot if slot >= 0 else -1 - block)
        assert bool(entry["flags"]) == row["replaces"]
    assert part.entry.ok == sum(row["slot"] >= 0 for row in rows)


def test_a_part_is_plain_parquet(stored: _Stored) -> None:
    import pyarrow.parquet as pq

    file = stored.storage.local_file(stored.new.entry.keys[0])
    table = pq.read_table(file, page_checksum_verification=True)
    assert table.schema.equals(SCHEMA)
    assert table.column("clip_id").to_pylist() == stored.ids


@pytest.mark.parametrize("which", [0, 1], ids=["parquet", "index"])
@pytest.mark.parametrize("keep", [0, 10, -1], ids=["empty", "ten-bytes", "but-one"])
def test_a_short_or_absent_file_is_named(stored: _Stored, which: int, keep: int) -> None:
    file = stored.storage.local_file(stored.new.entry.keys[which])
    good = file.read_bytes()
    for content in (good[:keep], None):
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        part = ManifestPart(stored.storage, stored.new.entry)
        with pytest.raises(CorruptStore, match=r"part-.*(missing|ends before|is not what)"):
            stored.find(stored.ids) if which else part.table(["status"])
