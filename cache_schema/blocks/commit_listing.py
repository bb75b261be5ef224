"""Finding the records that a version of the manifest has not taken in, without listing the others."""

from cache_schema.blocks.block_claim import parse_record_name, record_name
from cache_schema.blocks.block_runs import BlockRuns
from cache_schema.layout import COMMITS
from cache_schema.store_root import StoreRoot


def unfolded_blocks(root: StoreRoot, folded: BlockRuns) -> list[int]:
    """Returns the addresses of the commits that a version has not taken in, ascending.

    Addresses are claimed in order, so all below the highest folded one are known: the few gaps among
    them are looked up one by one, and only names behind it are listed.
    """
    blocks = root.layout.segment_blocks
    late = [
        address
        for address in folded.gaps()
        if root.storage.exists(f"{COMMITS}/{record_name(*divmod(address, blocks))}")
    ]
    return late + record_addresses(root, COMMITS, folded.end)


def record_addresses(root: StoreRoot, folder: str, start: int) -> list[int]:
    """Returns the addresses of the claims or commits from one address on, ascending."""
    blocks = root.layout.segment_blocks
    after = record_name(*divmod(start - 1, blocks)) if start else ""
    places = filter(None, map(parse_record_name, root.storage.names(folder, after=after)))
    addresses = (segment * blocks + block for segment, block in places)
    return sorted(address for address in addresses if address >= start)
