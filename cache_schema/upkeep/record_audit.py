"""What can be wrong with a store's metadata and claims: all that is neither commit, manifest nor shard."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

from cache_schema.blocks.block_claim import record_name, unseal_claim
from cache_schema.blocks.block_commit import BlockCommit
from cache_schema.blocks.block_runs import BlockRuns
from cache_schema.errors import CorruptStore, InputError
from cache_schema.layout import ATTRIBUTE_KEY, CLAIMS
from cache_schema.manifest.manifest_version import read_version, root_copy
from cache_schema.store_root import StoreRoot
from cache_schema.upkeep.pins import PINS, Pin, read_pin
from cache_schema.zarr_metadata import ROOT_KEY, group_problems, segment_problems

Block = tuple[int, int]
"""Segment, and number of the block in it."""


class RecordFlaw(NamedTuple):
    """One thing wrong with a file."""

    severity: Literal["error", "notice"]
    code: str
    place: str
    message: str


def root_flaws(root: StoreRoot) -> Iterator[RecordFlaw]:
    """Compares the store's own metadata with the copy that the newest manifest version keeps."""
    copy = root_copy(root.storage)
    if copy is None or copy.get("digest") != root.identity.digest:
        # A manifest of another store is told of as such.
        return
    document = json.loads(root.storage.read(ROOT_KEY))
    # Attributes of other programs are none of our business.
    attributes = {**document["attributes"], ATTRIBUTE_KEY: copy}
    for problem in group_problems(document, attributes):
        yield RecordFlaw("error", "metadata", ROOT_KEY, str(problem))


def segment_flaws(
    root: StoreRoot, segments: Collection[int], used: Collection[int]
) -> Iterator[RecordFlaw]:
    """Compares the metadata of segments, whole documents, with what the store's layout makes them.

    Args:
        root: the store.
        segments: numbers of the segments of which there is any file.
        used: numbers of the segments that have commits.
    """
    for segment in sorted(segments):
        problems = segment_problems(root.storage, segment, root.layout, whole=True)
        unfinished = segment not in used and any(
            problem.path.count("/") == 1 and problem.problem == "is missing" for problem in problems
        )
        for problem in problems:
            place = problem.path.partition(":")[0]
            if unfinished and problem.problem == "is missing":
                what = f"{problem}: the next claim in this segment makes it"
                yield RecordFlaw("notice", "unfinished", place, what)
            else:
                yield RecordFlaw("error", "metadata", place, str(problem))


def claim_flaws(root: StoreRoot, commits: Mapping[Block, BlockCommit]) -> Iterator[RecordFlaw]:
    """Checks the claims of blocks that have a commit: they stay, because writers count by them."""
    for place in sorted(commits):
        key = f"{CLAIMS}/{record_name(*place)}"
        try:
            claim = unseal_claim(root.storage, record_name(*place)).claim
        except FileNotFoundError:
            yield RecordFlaw("error", "claim", key, "is missing")
        except CorruptStore as error:
            yield RecordFlaw("error", "claim", key, str(error))
        else:
            if (claim.segment, claim.block) != place:
                what = f"is the claim of block {claim.segment}.{claim.block}, under another name"
                yield RecordFlaw("error", "claim", key, what)


def pin_flaws(root: StoreRoot) -> Iterator[RecordFlaw]:
    """Checks the pins."""
    for name in sorted(root.storage.names(PINS)):
        try:
            read_pin(root.storage, name.removesuffix(".json"))
        except CorruptStore as error:
            yield RecordFlaw("error", "pin", f"{PINS}/{name}", str(error))


class Replacements:
    """Which entries of commits no reader asks for any more, because later blocks replace them.

    Args:
        root: the store.
        commits: all its commits.
    """

    def __init__(self, root: StoreRoot, commits: Mapping[Block, BlockCommit]) -> None:
        self._blocks = root.layout.segment_blocks
        self._by_clip: dict[str, list[int]] = {}
        for place, commit in sorted(commits.items()):
            if commit.replaces:
                for clip in commit.clips:
                    self._by_clip.setdefault(clip.outcome.clip_id, []).append(self._address(place))
        self._pinned: list[BlockRuns] = []
        for pin in _sound_pins(root):
            with suppress(CorruptStore, InputError):
                self._pinned.append(read_version(root, pin.version).blocks)

    def replaced(self, place: Block, clip_id: str) -> bool:
        """Tells whether a later block than this one replaces what it says of a clip."""
        return any(later > self._address(place) for later in self._by_clip.get(clip_id, ()))

    def pinned(self, place: Block, clip_id: str) -> bool:
        """Tells whether a pinned version shows what this block says of a clip."""
        address = self._address(place)
        return any(
            address in blocks
            and not any(
                later > address and later in blocks for later in self._by_clip.get(clip_id, ())
            )
            for blocks in self._pinned
        )

    def _address(self, place: Block) -> int:
        return place[0] * self._blocks + place[1]


def _sound_pins(root: StoreRoot) -> Iterator[Pin]:
    for name in root.storage.names(PINS):
        with suppress(CorruptStore):
            yield read_pin(root.storage, name.removesuffix(".json"))
