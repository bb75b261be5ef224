"""The state of all blocks as the claim and commit files tell it: read again and again, never locked.

Claims are never deleted and an address is passed over only when its claim was seen, so addresses are
taken in order: whoever holds a higher address could see every lower claim. That is what settles,
without a lock, which of two jobs keeps a clip that both have claimed.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace

from cache_schema.blocks.block_claim import (
    BlockClaim,
    ClaimRecord,
    read_claim,
    record_name,
)
from cache_schema.blocks.block_commit import BlockCommit, read_commit
from cache_schema.blocks.commit_listing import record_addresses, unfolded_blocks
from cache_schema.blocks.process_owner import ProcessOwner
from cache_schema.layout import CLAIMS, COMMITS
from cache_schema.manifest.manifest import Manifest
from cache_schema.manifest.manifest_row import Standing, supersedes
from cache_schema.outcome import Status
from cache_schema.storage.storage import Storage
from cache_schema.store_root import StoreRoot, create_segment


class BlockLedger:
    """Which clips are done, and which are being done by a live process."""

    def __init__(
        self,
        root: StoreRoot,
        *,
        lease_s: float,
        manifest: Manifest,
    ) -> None:
        """Reads every claim and commit that the manifest has not taken in.

        Args:
            root: the store.
            lease_s: age from which a claim is dead when its process cannot be asked.
            manifest: what was folded so far; it is asked for the clips of folded blocks.
        """
        self._root = root
        self._storage = root.storage
        self._lease_s = lease_s
        self._index = manifest.index
        # Only of clips in blocks that are not folded.
        self._standings: dict[str, Standing] = {}
        self._live: dict[int, ClaimRecord] = {}
        self._new_failures: set[str] = set()
        folded = manifest.version.blocks
        commits = unfolded_blocks(root, folded)
        for address in commits:
            self._apply(read_commit(self._storage, self._name(address)), address)
        self._new_failures.clear()
        # All addresses below the end are claimed, and so is every block that has a commit.
        claims = {*folded.gaps(), *record_addresses(root, CLAIMS, folded.end), *commits}
        self._open = claims.difference(commits)
        self._next = max(max(claims, default=-1) + 1, folded.end)

    def refresh(self, *, job: str) -> None:
        """Takes in new claims and commits, and ends the claims of dead processes.

        Args:
            job: the job that is named as the one which ended them.
        """
        while self._storage.exists(f"{CLAIMS}/{self._name(self._next)}"):
            self._open.add(self._next)
            self._next += 1
        for address in sorted(self._open):
            self._live.pop(address, None)
            commit = self._commit_of(address)
            if commit is None:
                record = read_claim(self._storage, self._name(address))
                if self._is_alive(record, address):
                    self._live[address] = record
                    continue
                commit = end_block(self._storage, record.claim, job=job)
            self._apply(commit, address)
            self._open.discard(address)

    def statuses(self, clip_ids: Sequence[str]) -> list[Status | None]:
        """Returns clips' committed statuses, None for a clip without one."""
        statuses: list[Status | None] = []
        folded = self._index.find(clip_ids).standings(self._root.layout.segment_blocks)
        for clip_id, held in zip(clip_ids, folded, strict=True):
            new = self._standings.get(clip_id)
            standing = new if new and (held is None or supersedes(new, held)) else held
            statuses.append(
                None if standing is None else Status.OK if standing.ok else Status.FAILED
            )
        return statuses

    def has_just_failed(self, clip_id: str) -> bool:
        """Tells whether a clip failed since this ledger was opened, or since ``retry`` of it.

        Whoever wanted it done before then knows nothing of that, and has not asked for a retry.
        """
        return clip_id in self._new_failures

    def retry(self, clip_ids: Collection[str]) -> None:
        """Says that failures of these clips are known, and that they are to be done again."""
        self._new_failures.difference_update(clip_ids)

    def claimed(self, *, before: BlockClaim | None = None) -> set[str]:
        """Returns the clips that live processes have claimed, or only those claimed before one."""
        limit = self._next if before is None else self._address(before.segment, before.block)
        return {
            clip_id
            for address, record in self._live.items()
            if address < limit
            for clip_id in record.claim.clip_ids
        }

    def create_claim(
        self, clip_ids: Collection[str], *, job: str, replaces: bool = False
    ) -> ClaimRecord:
        """Claims the first free block for some clips, in the name of the calling process."""
        owner, token = ProcessOwner.current(), secrets.token_hex(8)
        address = self._next
        while True:
            segment, block = divmod(address, self._root.layout.segment_blocks)
            create_segment(self._root, segment)
            claim = BlockClaim(
                segment=segment,
                block=block,
                clip_ids=tuple(clip_ids),
                job=job,
                token=token,
                replaces=replaces,
            )
            record = ClaimRecord(claim=claim, owner=owner)
            if self._storage.create(f"{CLAIMS}/{claim.name}", record.encode()):
                return record
            address += 1

    def narrow_claim(self, record: ClaimRecord, clip_ids: Collection[str]) -> ClaimRecord:
        """Gives up some clips of one's own claim."""
        fewer = replace(record.claim, clip_ids=tuple(clip_ids))
        narrowed = ClaimRecord(claim=fewer, owner=record.owner)
        self._storage.replace(f"{CLAIMS}/{fewer.name}", narrowed.encode())
        return narrowed

    def _apply(self, commit: BlockCommit, address: int) -> None:
        for clip in commit.clips:
            clip_id, ok = clip.outcome.clip_id, clip.outcome.status is Status.OK
            new, before = Standing(address, ok, commit.replaces), self._standings.get(clip_id)
            if before is None or supersedes(new, before):
                self._standings[clip_id] = new
            if not ok:
                self._new_failures.add(clip_id)

    def _is_alive(self, record: ClaimRecord, address: int) -> bool:
        alive = record.owner.is_alive() if record.owner is not None else None
        if alive is None:
            return self._storage.age_s(f"{CLAIMS}/{self._name(address)}") <= self._lease_s
        return alive

    def _commit_of(self, address: int) -> BlockCommit | None:
        try:
            return read_commit(self._storage, self._name(address))
        except FileNotFoundError:
            return None

    def _address(self, segment: int, block: int) -> int:
        return segment * self._root.layout.segment_blocks + block

    def _name(self, address: int) -> str:
        return record_name(*divmod(address, self._root.layout.segment_blocks))


def end_block(storage: Storage, claim: BlockClaim, *, job: str) -> BlockCommit:
    """Ends a claimed block without data, unless its owner has committed it meanwhile.

    Returns:
        The block's commit: the one made here, or the owner's.
    """
    commit = BlockCommit.of_claim(claim, job=job, abandoned=True)
    if storage.create(f"{COMMITS}/{claim.name}", commit.encode()):
        return commit
    return read_commit(storage, claim.name)
