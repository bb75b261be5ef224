"""What can be wrong with the manifest's own files: records of versions, parts, and their indexes."""

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from cache_schema.errors import CorruptStore
from cache_schema.manifest.manifest import Manifest
from cache_schema.manifest.manifest_part import ManifestPart
from cache_schema.manifest.manifest_version import read_version, record_key, version_numbers
from cache_schema.manifest.part_entry import PartEntry
from cache_schema.manifest.part_index import IndexSizes
from cache_schema.manifest.part_writer import part_entries
from cache_schema.storage.storage import Storage
from cache_schema.store_root import StoreRoot

_PIECE: Final = 2**24
_INDEXED: Final = ("clip_id", "status", "segment", "block", "slot", "replaces")


class ManifestFlaw(NamedTuple):
    """One thing wrong with a file of the manifest."""

    place: str
    message: str


def manifest_flaws(root: StoreRoot) -> Iterator[ManifestFlaw]:
    """Checks every version that readers may be pinned to: its record, and the parts that it names.

    Parts have the digests of the record; their indexes lead to the rows that the Parquet files hold.
    """
    parts: dict[str, PartEntry] = {}
    for number in version_numbers(root.storage):
        try:
            version = read_version(root, number)
        except CorruptStore as error:
            yield ManifestFlaw(record_key(number), str(error))
            continue
        parts.update((part.name, part) for part in version.parts)
    for part in parts.values():
        yield from _part_flaws(root.storage, part)


def total_flaws(manifest: Manifest) -> Iterator[ManifestFlaw]:
    """Compares the numbers of clips that a version's record tells with its rows."""
    place = record_key(manifest.version.number)
    clips = ok = 0
    for table in manifest.tables(["status"]):
        clips += table.num_rows
        ok += table.column("status").to_pylist().count("ok")
    told = manifest.version.clips, manifest.version.ok
    if told != (clips, ok):
        message = f"tells of {told[0]} clips, {told[1]} of them ok, but has {clips} and {ok}"
        yield ManifestFlaw(place, message)


def _part_flaws(storage: Storage, entry: PartEntry) -> Iterator[ManifestFlaw]:
    parquet_key, index_key = entry.keys
    sizes = IndexSizes(entry.rows, entry.bytes)
    flawed = False
    for key, size, digest in (
        (parquet_key, entry.bytes, entry.digest),
        (index_key, sizes.file_bytes, entry.index_digest),
    ):
        found = storage.size(key)
        if found is None:
            problem = "is missing"
        elif found != size:
            problem = f"has {found} bytes, not {size}"
        elif _digest(storage, key, size) != digest:
            problem = f"does not have the digest {digest} that its version tells"
        else:
            continue
        flawed = True
        yield ManifestFlaw(key, problem)
    if flawed:
        return
    part = ManifestPart(storage, entry)
    try:
        written = np.sort(part.pages(range(sizes.pages))[: entry.rows], order="row")
        expected = part_entries(part.table(_INDEXED), 0)
    except CorruptStore as error:
        yield ManifestFlaw(index_key, str(error))
        return
    wrong = np.flatnonzero(written != expected)
    if len(wrong):
        message = f"leads to other rows than the part has, {len(wrong)} times, first at {wrong[0]}"
        yield ManifestFlaw(index_key, message)


def _digest(storage: Storage, key: str, size: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, size, _PIECE):
        digest.update(*storage.read_ranges(key, [(start, _PIECE)]))
    return digest.hexdigest()
