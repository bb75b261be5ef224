"""The index file of a manifest part: from a clip's id to its row, by reading one page.

All numbers are little-endian. A head, padded to whole pages, then the pages:

    magic       8 bytes, "VDINDEX1"
    part        16 bytes, the part's random name
    rows        u64, entries of the index, at least one
    bytes       u64, size of the part's Parquet file
    first key   u64 for each page: ``high`` of its first entry
    filter      u64 words: a clip id whose four bits are not all set in its word has no row
    blocks      u32 for each 64 KiB of the Parquet file: crc32c

    page        2048 bytes: crc32c of all that follows in it (u32), its number (u32), its entries
                (u32), zero (u32), the part's name (16 bytes), then up to 63 entries of 32 bytes

An entry's key is the BLAKE2b-128 of the clip's id; entries ascend by key over all pages. The head is
protected by the digest in the version's record, every page by its own checksum.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

MAGIC: Final = b"VDINDEX1"
PAGE_BYTES: Final = 2048
BLOCK_BYTES: Final = 65536
"""Piece of a Parquet file that has a checksum of its own."""

ENTRY: Final = np.dtype(
    [
        ("high", "<u8"),
        ("low", "<u8"),
        ("segment", "<u4"),
        ("place", "<i4"),
        ("row", "<u4"),
        ("flags", "<u4"),
    ]
)
"""``place`` is the slot of a clip that is ok, and -1 - block of one that failed."""
REPLACES: Final = 1
"""Flag of a row that came from a commit which replaces earlier features."""

_HEADER: Final = np.dtype(
    [("crc", "<u4"), ("number", "<u4"), ("entries", "<u4"), ("zero", "<u4"), ("part", "V16")]
)
PAGE_ENTRIES: Final = (PAGE_BYTES - _HEADER.itemsize) // ENTRY.itemsize
_HEAD: Final = np.dtype([("magic", "S8"), ("part", "V16"), ("rows", "<u8"), ("bytes", "<u8")])
# Twelve bits a key and four of them set: one id in a hundred passes that has no row.
_FILTER_BITS: Final = 12
# Sorts behind every key, so that the last page may be searched like a full one.
_PADDING: Final = np.uint64(2**64 - 1)

Keys = npt.NDArray[np.uint64]
Content = bytes | bytearray | memoryview


class IndexSizes(NamedTuple):
    """Where the sections of an index stand: a function of what the version's record tells."""

    rows: int
    parquet_bytes: int

    @property
    def pages(self) -> int:
        """Number of pages."""
        return -(-self.rows // PAGE_ENTRIES)

    @property
    def words(self) -> int:
        """Words of the filter."""
        return -(-self.rows * _FILTER_BITS // 64)

    @property
    def blocks(self) -> int:
        """Blocks of the Parquet file, the last one short."""
        return -(-self.parquet_bytes // BLOCK_BYTES)

    @property
    def head_bytes(self) -> int:
        """Size of the head, which is where the pages begin."""
        used = _HEAD.itemsize + 8 * self.pages + 8 * self.words + 4 * self.blocks
        return -(-used // PAGE_BYTES) * PAGE_BYTES

    @property
    def file_bytes(self) -> int:
        """Size of the whole index."""
        return self.head_bytes + self.pages * PAGE_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexHead:
    """What of an index is kept in memory: about 1.7 bytes a row."""

    first_keys: Keys
    """uint64 [pages]"""
    filter_words: Keys
    """uint64 [words]"""
    block_checksums: npt.NDArray[np.uint32]
    """uint32 [blocks]"""


def hash_ids(clip_ids: Iterable[str]) -> tuple[Keys, Keys]:
    """Returns the keys of clip ids: the upper and lower halves of their BLAKE2b-128, uint64 [n]."""
    ids = list(clip_ids)
    try:
        encoded = [clip_id.encode() for clip_id in ids]
    except UnicodeEncodeError:
        # A lone surrogate is in no valid id, but asking for one must find nothing instead of failing.
        encoded = [clip_id.encode("utf-8", "surrogatepass") for clip_id in ids]
    digests = [hashlib.blake2b(content, digest_size=16).digest() for content in encoded]
    pairs = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2).astype(np.uint64)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def encode_index(entries: npt.NDArray[np.void], part: bytes, parquet: Content) -> bytearray:
    """Returns the index of a part.

    Args:
        entries: ``ENTRY`` [rows], one of each key, in any order.
        part: the part's name, 16 bytes.
        parquet: the part's Parquet file.
    """
    sizes = IndexSizes(len(entries), len(parquet))
    entries = entries[np.lexsort((entries["low"], entries["high"]))]
    file = bytearray(sizes.file_bytes)
    head = np.zeros(1, _HEAD)
    head["magic"], head["rows"], head["bytes"] = MAGIC, sizes.rows, sizes.parquet_bytes
    head["part"] = np.frombuffer(part, "V16")
    sections = (
        head.tobytes(),
        entries["high"][::PAGE_ENTRIES].astype("<u8").tobytes(),
        _filter_of(entries["high"], entries["low"], sizes.words).astype("<u8").tobytes(),
        block_checksums(parquet).astype("<u4").tobytes(),
    )
    used = b"".join(sections)
    file[: len(used)] = used
    pages = np.frombuffer(file, np.uint8)[sizes.head_bytes :].reshape(sizes.pages, PAGE_BYTES)
    _fill_pages(pages, entries, part)
    return file


def decode_head(head: bytes, sizes: IndexSizes, part: bytes) -> IndexHead:
    """Reads the head of an index, whose digest was compared before.

    Raises:
        ValueError: it is the head of another index.
    """
    expected = np.zeros(1, _HEAD)
    expected["magic"], expected["rows"], expected["bytes"] = MAGIC, sizes.rows, sizes.parquet_bytes
    expected["part"] = np.frombuffer(part, "V16")
    if len(head) != sizes.head_bytes or head[: _HEAD.itemsize] != expected.tobytes():
        raise ValueError("it is the index of another part")
    first = _HEAD.itemsize
    second = first + 8 * sizes.pages
    third = second + 8 * sizes.words
    return IndexHead(
        first_keys=np.frombuffer(head[first:second], "<u8"),
        filter_words=np.frombuffer(head[second:third], "<u8"),
        block_checksums=np.frombuffer(head[third : third + 4 * sizes.blocks], "<u4"),
    )


def block_checksums(content: Content) -> npt.NDArray[np.uint32]:
    """Returns the crc32c of every 64 KiB of a Parquet file, or of a piece that begins at one."""
    flat = np.frombuffer(content, np.uint8)
    starts = range(0, len(flat), BLOCK_BYTES)
    return np.array([_crc(flat[start : start + BLOCK_BYTES]) for start in starts], np.uint32)


def pages_wanted(head: IndexHead, high: Keys, low: Keys) -> npt.NDArray[np.int64]:
    """Returns the numbers of the pages that can hold some keys, ascending, each once."""
    word, bits = _filter_places(high, low, len(head.filter_words))
    high = high[(head.filter_words[word] & bits) == bits]
    page = np.searchsorted(head.first_keys, high, side="right") - 1
    # Where a page begins with the same upper half, the key may be the last of the page before.
    straddling = page[(page > 0) & (head.first_keys[page] == high)] - 1
    wanted = np.concatenate([page[page >= 0], straddling])
    return np.unique(wanted)


def decode_pages(
    pages: Sequence[bytes], numbers: Sequence[int], sizes: IndexSizes, part: bytes
) -> npt.NDArray[np.void]:
    """Returns the entries of some pages, ``ENTRY`` [pages x 63], padded behind the last key.

    Args:
        pages: the pages' bytes.
        numbers: their numbers, ascending.
        sizes: the index's sizes.
        part: the part's name.

    Raises:
        ValueError: a page is short, fails its checksum, or belongs elsewhere; tells which.
    """
    joined = np.frombuffer(b"".join(pages), np.uint8)
    if len(joined) != len(numbers) * PAGE_BYTES:
        raise ValueError("it ends before its pages do")
    content = joined.reshape(-1, PAGE_BYTES)
    headers = np.ascontiguousarray(content[:, : _HEADER.itemsize]).view(_HEADER)[:, 0]
    crcs = map(google_crc32c.value, content[:, 4:])
    wrong = np.fromiter(crcs, np.uint32, len(numbers)) != headers["crc"]
    if wrong.any():
        raise ValueError(f"page {numbers[int(np.argmax(wrong))]} fails its checksum")
    expected = np.asarray(numbers, np.int64)
    counts = np.minimum(sizes.rows - expected * PAGE_ENTRIES, PAGE_ENTRIES)
    names = np.ascontiguousarray(content[:, _HEADER.itemsize - 16 : _HEADER.itemsize])
    misplaced = (
        (headers["number"] != expected)
        | (headers["entries"] != counts)
        | (names != np.frombuffer(part, np.uint8)).any(axis=1)
    )
    if misplaced.any():
        raise ValueError(f"page {numbers[int(np.argmax(misplaced))]} belongs elsewhere")
    entries = np.ascontiguousarray(content[:, _HEADER.itemsize :]).view(ENTRY)
    return entries.reshape(-1)


def find_entries(
    entries: npt.NDArray[np.void], high: Keys, low: Keys
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.void]]:
    """Looks keys up among the entries of the pages that ``pages_wanted`` named.

    Returns:
        bool [n], which keys are there, and ``ENTRY`` [n], meaningless where a key is not.
    """
    found = np.zeros(len(high), np.bool_)
    if not len(entries):
        return found, np.zeros(len(high), ENTRY)
    keys = np.ascontiguousarray(entries["high"])
    place = np.minimum(np.searchsorted(keys, high), len(keys) - 1)
    while True:
        same = keys[place] == high
        found = same & (entries["low"][place] == low)
        # Two ids with the same upper half stand side by side.
        again = same & ~found & (place < len(keys) - 1)
        if not again.any():
            return found, entries[place]
        place = place + again


def _fill_pages(pages: npt.NDArray[np.uint8], entries: npt.NDArray[np.void], part: bytes) -> None:
    padded = np.zeros(len(pages) * PAGE_ENTRIES, ENTRY)
    padded["high"][len(entries) :] = padded["low"][len(entries) :] = _PADDING
    padded[: len(entries)] = entries
    pages[:, _HEADER.itemsize :] = padded.view(np.uint8).reshape(len(pages), -1)
    headers = np.zeros(len(pages), _HEADER)
    headers["number"] = np.arange(len(pages))
    headers["entries"] = PAGE_ENTRIES
    headers["entries"][-1] = len(entries) - (len(pages) - 1) * PAGE_ENTRIES
    headers["part"] = np.frombuffer(part, "V16")
    pages[:, : _HEADER.itemsize] = headers.view(np.uint8).reshape(len(pages), -1)
    for page in pages:
        page[:4] = np.frombuffer(_crc(page[4:]).to_bytes(4, "little"), np.uint8)


def _filter_of(high: Keys, low: Keys, words: int) -> Keys:
    filled = np.zeros(words, np.uint64)
    word, bits = _filter_places(high, low, words)
    np.bitwise_or.at(filled, word, bits)
    return filled


def _filter_places(high: Keys, low: Keys, words: int) -> tuple[npt.NDArray[np.int64], Keys]:
    """Returns a key's word in the filter and its four bits there.

    The word comes from the middle of the key and the bits from its end, because neighbours of a page
    share the begin.
    """
    word = ((high & np.uint64(0xFFFFFFFF)) * np.uint64(words)) >> np.uint64(32)
    bits = np.zeros(len(low), np.uint64)
    for shift in (0, 6, 12, 18):
        bits |= np.uint64(1) << ((low >> np.uint64(shift)) & np.uint64(63))
    return word.astype(np.int64), bits


def _crc(content: npt.NDArray[np.uint8]) -> int:
    return int(google_crc32c.value(content))
