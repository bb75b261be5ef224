"""Recovering the manifest's files: from another copy, from each other, or anew from the commits."""

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cache_schema.errors import CorruptStore
from cache_schema.manifest.manifest_audit import manifest_flaws
from cache_schema.manifest.manifest_version import (
    CURRENT_KEY,
    newest_version,
    read_version,
    record_key,
    version_numbers,
)
from cache_schema.manifest.part_entry import PartEntry
from cache_schema.manifest.part_index import encode_index
from cache_schema.manifest.part_writer import part_entries
from cache_schema.sealed_json import seal, unseal
from cache_schema.storage.storage import Storage
from cache_schema.store_root import StoreRoot
from cache_schema.upkeep.repair_plan import RepairStep

_INDEXED: Final = ["clip_id", "status", "segment", "block", "slot", "replaces"]


def manifest_steps(root: StoreRoot, copy: Storage | None) -> Iterator[RepairStep]:
    """Yields the steps that leave a store with a sound manifest that shows all its commits.

    What neither another copy nor the rest of the manifest can bring back is set aside, with the
    versions that need it, after the newest version was made anew. Readers pinned to such a version
    lose it; no feature is lost.

    Args:
        root: the store; its commits must be sound when the steps are taken.
        copy: another copy of the very same store, if there is one.
    """
    flaws = {flaw.place: flaw.message for flaw in manifest_flaws(root)}
    entries = _entries(root)
    lost: dict[str, str] = {}
    for place, why in sorted(flaws.items()):
        content = _copied(copy, place, entries.get(place)) or _derived(root, place, entries)
        if content is None:
            lost[place] = why
        else:
            yield RepairStep(
                action="restore", place=place, why=why, content=partial(bytes, content)
            )
    gone = [number for number in version_numbers(root.storage) if _needs(root, number, lost)]
    newest = max(version_numbers(root.storage), default=0)
    yield from _current_steps(root.storage, newest)
    if newest in gone:
        why = "; ".join(f"{place}: {what}" for place, what in lost.items())
        yield RepairStep(action="fold", place=record_key(newest), why=why)
    for number in gone:
        place = record_key(number)
        what = lost.get(place, "needs a part that is damaged, and can no longer be read")
        yield RepairStep(action="set-aside", place=place, why=what)
    for place in sorted(set(lost) - {record_key(number) for number in gone}):
        if root.storage.exists(place):
            yield RepairStep(action="set-aside", place=place, why=lost[place])


def _current_steps(storage: Storage, newest: int) -> Iterator[RepairStep]:
    why = ""
    try:
        newest_version(storage)
    except CorruptStore as error:
        why = str(error)
    if not why and newest and not storage.exists(CURRENT_KEY):
        why = "is missing"
    if why and newest:
        content = partial(bytes, seal({"version": newest}))
        yield RepairStep(action="rewrite", place=CURRENT_KEY, why=why, content=content)
    elif why and storage.exists(CURRENT_KEY):
        yield RepairStep(action="set-aside", place=CURRENT_KEY, why=why)
        yield RepairStep(action="fold", place=record_key(1), why="no version is left")


def _entries(root: StoreRoot) -> dict[str, PartEntry]:
    """Returns what the sound records say of parts, by the keys of both files."""
    entries = {}
    for number in version_numbers(root.storage):
        with contextlib.suppress(CorruptStore):
            for part in read_version(root, number).parts:
                entries.update(dict.fromkeys(part.keys, part))
    return entries


def _needs(root: StoreRoot, number: int, lost: dict[str, str]) -> bool:
    if record_key(number) in lost:
        return True
    try:
        parts = read_version(root, number).parts
    except CorruptStore:
        # Its record is restored from the copy, and so is what it needs.
        return False
    return any(key in lost for part in parts for key in part.keys)


def _copied(copy: Storage | None, place: str, entry: PartEntry | None) -> bytes | None:
    if copy is None:
        return None
    try:
        content = copy.read(place)
    except FileNotFoundError:
        return None
    if entry is None:
        return content if _is_record(copy, content, place) else None
    wanted = entry.digest if place == entry.keys[0] else entry.index_digest
    return content if _digest(content) == wanted else None


def _is_record(copy: Storage, content: bytes, place: str) -> bool:
    try:
        unseal(content, copy.name(place))
    except CorruptStore:
        return False
    return True


def _derived(root: StoreRoot, place: str, entries: dict[str, PartEntry]) -> bytes | None:
    """Makes an index again from its sound Parquet file; the digest tells whether it is the same."""
    entry = entries.get(place)
    if entry is None or place == entry.keys[0]:
        return None
    try:
        parquet = root.storage.read(entry.keys[0])
        if _digest(parquet) != entry.digest:
            return None
        table = pq.read_table(pa.BufferReader(parquet), columns=_INDEXED)
    except (FileNotFoundError, pa.ArrowException):
        return None
    index = encode_index(part_entries(table, 0), bytes.fromhex(entry.name), parquet)
    return bytes(index) if _digest(index) == entry.index_digest else None


def _digest(content: bytes | bytearray) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
