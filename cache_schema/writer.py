"""Writing features into a store: claim a block, write its shards, verify them, commit."""

import os
import secrets
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Final, NoReturn, Self

import numpy as np
import numpy.typing as npt

from cache_schema.blocks.block_claim import LEASE_S, BlockClaim, Heartbeat, read_claim
from cache_schema.blocks.block_commit import (
    NO_SLOT,
    BlockCommit,
    CommittedClip,
    FileSeal,
    read_commit,
)
from cache_schema.blocks.block_ledger import BlockLedger, end_block
from cache_schema.errors import (
    InputError,
    NonFiniteFeatures,
    StoreBusy,
    StoreNewer,
)
from cache_schema.identity import FeatureIdentity
from cache_schema.layout import COMMITS
from cache_schema.manifest.manifest import Manifest
from cache_schema.manifest.manifest_fold import fold_commits
from cache_schema.manifest.manifest_version import base_version
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.shards.int8_tokens import Float32
from cache_schema.shards.shard_writer import ShardWriter
from cache_schema.shards.stored_patches import patch_counts, stored
from cache_schema.store_root import read_root, require_identity

# Five beats to a lease: a claim survives four that a slow file system loses.
_BEATS_PER_LEASE: Final = 5

Float16 = npt.NDArray[np.float16]


class StoreWriter:
    """One process's way to write into a store that others write into at the same time.

    No locks are taken. A block has one owner ever, the process that created its claim; it exists
    when its commit does, and files once published are never written again. Threads of one process
    may share a writer. Leaving the ``with`` block ends the claims that were not committed.

    Args:
        location: path of the store; made by ``create_store``.
        identity: identity of the features that will be written.
        job: name of the run, told to whoever meets its claims.
        lease_s: age from which a claim of another machine is dead without a heartbeat.

    Raises:
        IdentityMismatch: the store holds other features.
        StoreNewer: the store needs a writer that knows more.
        StoreAbsent, StoreForeign, StoreOlder, CorruptStore: as ``open_store``.
    """

    def __init__(
        self,
        location: str | os.PathLike[str],
        identity: FeatureIdentity,
        *,
        job: str | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self._root = read_root(location)
        self._storage = self._root.storage
        require_identity(self._root, identity)
        if self._root.writer_features:
            raise StoreNewer(
                f"The store {self.location} needs a writer that knows "
                f"{list(self._root.writer_features)}; this version does not. Upgrade "
                f"videodistill-cache to add to it; reading works."
            )
        self._shards = ShardWriter(self._storage)
        self.job = job or f"job-{secrets.token_hex(4)}"
        self._lock = threading.Lock()
        self._open_claims: dict[str, BlockClaim] = {}
        self._heartbeat = Heartbeat(self._storage, lease_s / _BEATS_PER_LEASE)
        manifest = Manifest(self._root, base_version(self._root))
        self._ledger = BlockLedger(self._root, lease_s=lease_s, manifest=manifest)

    @property
    def location(self) -> str:
        """Path or URL of the store."""
        return self._storage.location

    @property
    def identity(self) -> FeatureIdentity:
        """Identity of the store."""
        return self._root.identity

    @property
    def block_slots(self) -> int:
        """Most clips of a block."""
        return self._root.layout.block_slots

    def pending(self, clip_ids: Iterable[str], *, retry_failed: bool = False) -> list[str]:
        """Returns the clips still to be done: neither committed nor claimed by a live process.

        Claims of dead processes met on the way are ended, and their clips returned.

        Args:
            clip_ids: the clips wanted; the order is kept, repetitions are dropped.
            retry_failed: whether a clip that failed is to be done again.
        """
        done = {Status.OK} if retry_failed else {Status.OK, Status.FAILED}
        with self._lock:
            self._ledger.refresh(job=self.job)
            claimed = self._ledger.claimed()
            wanted = list(dict.fromkeys(clip_ids))
            pending = [
                clip_id
                for clip_id, status in zip(wanted, self._ledger.statuses(wanted), strict=True)
                if clip_id not in claimed and status not in done
            ]
            if retry_failed:
                self._ledger.retry(pending)
            return pending

    def claim(self, clip_ids: Sequence[str], *, replace: bool = False) -> BlockClaim | None:
        """Claims a block for some clips, at most ``block_slots`` of them.

        Args:
            clip_ids: clips that ``pending`` returned, or any clips to replace.
            replace: whether the block is to take the place of what the store has of these clips,
                features or failure. For repair; no reader of an older version sees it.

        Returns:
            The claim. Its ``clip_ids`` lack those that another process has claimed or done since
            ``pending`` was asked; None when none is left.

        Raises:
            InputError: there are no clips, too many, or one twice.
        """
        if not 1 <= len(clip_ids) <= self.block_slots or len(set(clip_ids)) != len(clip_ids):
            raise InputError(
                f"A block of this store takes 1 to {self.block_slots} different clips, not "
                f"{len(clip_ids)} with {len(set(clip_ids))} different ones."
            )
        with self._lock:
            self._ledger.refresh(job=self.job)
            free = self._free(clip_ids, self._ledger.claimed(), replace=replace)
            if not free:
                return None
            record = self._ledger.create_claim(free, job=self.job, replaces=replace)
            self._open_claims[record.claim.name] = record.claim
            # Others may have claimed or committed while the claim was made; the lower address wins.
            self._ledger.refresh(job=self.job)
            claimed = self._ledger.claimed(before=record.claim)
            kept = self._free(free, claimed, replace=replace)
            if not kept:
                self.abandon(record.claim)
                return None
            if kept != free:
                record = self._ledger.narrow_claim(record, kept)
            self._open_claims[record.claim.name] = record.claim
            self._heartbeat.add(record.claim.name)
        return record.claim

    def write_block(
        self, claim: BlockClaim, outcomes: Sequence[ClipOutcome], cls: Float16, patch: Float16
    ) -> None:
        """Writes the features of a claimed block, verifies them on disk and commits the block.

        Args:
            claim: the block; a claim can be written once.
            outcomes: exactly one outcome for each of the claim's clips.
            cls: float16 [n, N, D], a row per outcome; rows of failed clips are not looked at.
            patch: float16 [n, N, P, D], likewise. A pooled store also takes the grids before
                pooling. Where features are reduced here, the outcome's ``loss`` is measured.

        Raises:
            InputError: outcomes or arrays do not fit the claim or the store.
            NonFiniteFeatures: features of an ok clip hold NaN or infinity; nothing was written, and
                the block may be offered again with those clips marked as failed.
            StoreBusy: the block was ended because its owner seemed dead, or was written before;
                nothing was overwritten. The clips have to be claimed anew.
            CorruptStore: a file read back is not what was written; ``abandon`` the claim.
            OSError: the disk is full, or worse; ``abandon`` the claim.
        """
        self._require_outcomes(claim, outcomes)
        self._require_features(outcomes, cls, patch)
        self._require_owned(claim)
        rows = [row for row, outcome in enumerate(outcomes) if outcome.status is Status.OK]
        clips, scales = self._publish_patches(claim, {row: outcomes[row] for row in rows}, patch)
        cls_seal, scale_seal = self._publish_block(claim, cls[rows], scales)
        failed = {
            row: CommittedClip(outcome=outcome, slot=NO_SLOT, patch=None)
            for row, outcome in enumerate(outcomes)
        }
        commit = BlockCommit.of_claim(
            claim,
            job=self.job,
            cls_file=cls_seal,
            scale_file=scale_seal,
            clips=tuple((failed | clips).values()),
        )
        if not self._storage.create(f"{COMMITS}/{claim.name}", commit.encode()):
            self._refuse(claim)
        self._forget(claim)

    def abandon(self, claim: BlockClaim) -> None:
        """Ends a claim that will not be written; its clips are pending again at once."""
        end_block(self._storage, claim, job=self.job)
        self._forget(claim)

    def beat(self) -> None:
        """Makes the heartbeat of all open claims new; a thread does so five times per lease."""
        self._heartbeat.beat()

    def compact(self) -> int:
        """Folds all commits into a new version of the manifest; readers see it when they open next.

        Returns:
            The newest version; without new commits that is the one before.
        """
        return fold_commits(self._root)

    def close(self) -> None:
        """Stops the heartbeat and ends the claims that were not committed."""
        self._heartbeat.close()
        for claim in tuple(self._open_claims.values()):
            self.abandon(claim)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _free(
        self, clip_ids: Sequence[str], claimed: Collection[str], *, replace: bool
    ) -> list[str]:
        ledger = self._ledger
        return [
            clip_id
            for clip_id, status in zip(clip_ids, ledger.statuses(clip_ids), strict=True)
            if clip_id not in claimed
            and (replace or not (status is Status.OK or ledger.has_just_failed(clip_id)))
        ]

    def _forget(self, claim: BlockClaim) -> None:
        self._open_claims.pop(claim.name, None)
        self._heartbeat.discard(claim.name)

    def _require_outcomes(self, claim: BlockClaim, outcomes: Sequence[ClipOutcome]) -> None:
        found = sorted(outcome.clip_id for outcome in outcomes)
        if found != sorted(claim.clip_ids):
            strange = sorted(set(found) ^ set(claim.clip_ids))[:5]
            raise InputError(
                f"Block {claim.name} claims {len(claim.clip_ids)} clips, but {len(found)} outcomes "
                f"were given; they differ in {strange or 'repeated clips'}. Give one outcome for "
                f"each of claim.clip_ids."
            )
        frames = self.identity.frames
        for outcome in outcomes:
            times = outcome.frame_time
            if times is not None and len(times) != frames:
                raise InputError(
                    f"The outcome of clip {outcome.clip_id!r} tells of {len(times)} frames; this "
                    f"store keeps {frames} of every clip."
                )
            # Only another program's features may lack what extraction always knows.
            known = outcome.frame_index is not None or self.identity.source == "imported"
            if outcome.status is Status.OK and not known:
                raise InputError(
                    f"The outcome of clip {outcome.clip_id!r} does not tell its frames; only an "
                    f"imported store may lack them."
                )

    def _require_features(
        self, outcomes: Sequence[ClipOutcome], cls: Float16, patch: Float16
    ) -> None:
        layout, count = self._root.layout, len(outcomes)
        patches = patch.shape[2] if patch.ndim == 4 else -1
        if patches not in patch_counts(self.identity):
            patches = layout.patches
        expected = {
            "cls": (cls, (count, layout.frames, layout.dim)),
            "patch": (patch, (count, layout.frames, patches, layout.dim)),
        }
        for name, (array, shape) in expected.items():
            if array.shape != shape or array.dtype != np.float16:
                raise InputError(
                    f"{name} is {array.dtype} {array.shape}; this store takes float16 {shape} for "
                    f"{count} outcomes."
                )
        broken = [
            outcome.clip_id
            for row, outcome in enumerate(outcomes)
            if outcome.status is Status.OK and not (_finite(cls[row]) and _finite(patch[row]))
        ]
        if broken:
            raise NonFiniteFeatures(
                f"Features of {len(broken)} clips hold NaN or infinity, the first is {broken[0]!r}. "
                f"Nothing was written; mark these clips as failed (nonfinite).",
                clip_ids=broken,
            )

    def _require_owned(self, claim: BlockClaim) -> None:
        if self._storage.exists(f"{COMMITS}/{claim.name}"):
            self._refuse(claim)
        try:
            token = read_claim(self._storage, claim.name).claim.token
        except FileNotFoundError:
            token = None
        if token != claim.token:
            raise StoreBusy(
                f"Block {claim.name} of {self.location} is not claimed by this claim. Claim a block of "
                f"this store with StoreWriter.claim."
            )

    def _refuse(self, claim: BlockClaim) -> NoReturn:
        self._forget(claim)
        commit = read_commit(self._storage, claim.name)
        how = "ended as abandoned" if commit.abandoned else "committed"
        raise StoreBusy(
            f"Block {claim.name} of {self.location} was already {how} by job {commit.job!r} at "
            f"{commit.committed}; this commit was refused and nothing was overwritten. Ask for "
            f"pending clips and claim again."
        )

    def _publish_patches(
        self, claim: BlockClaim, outcomes: Mapping[int, ClipOutcome], patch: Float16
    ) -> tuple[dict[int, CommittedClip], list[Float32]]:
        """Writes the patches of the clips that are ok; returns their entries, and int8 scales."""
        layout = self._root.layout
        first_slot = claim.block * layout.block_slots

        def publish(ranked: tuple[int, int]) -> tuple[CommittedClip, Float32 | None]:
            rank, row = ranked
            kept, outcome = stored(patch[row], self.identity), outcomes[row]
            seals = [
                self._shards.publish(place, kept.values, layout.patch_shard)
                for place in layout.clip_files(claim.segment, first_slot + rank)
            ]
            # A copy of a reduced clip tells the loss against its first source; it keeps that.
            if outcome.loss is None and kept.loss is not None:
                outcome = replace(outcome, loss=kept.loss)
            seal = next(iter(seals), None)
            return CommittedClip(outcome=outcome, slot=first_slot + rank, patch=seal), kept.scale

        made = self._shards.each(publish, enumerate(outcomes))
        clips = {row: clip for row, (clip, _) in zip(outcomes, made, strict=True)}
        return clips, [scale for _, scale in made if scale is not None]

    def _publish_block(
        self, claim: BlockClaim, cls: Float16, scales: Sequence[Float32]
    ) -> tuple[FileSeal | None, FileSeal | None]:
        """Writes what a block's clips share a shard for: CLS features, and scales."""
        if not len(cls):
            return None, None
        layout, place = self._root.layout, (claim.segment, claim.block)
        cls_seal = self._shards.publish(layout.cls_file(*place), cls, layout.cls_shard)
        scale_seal = None
        if layout.quantised:
            file = layout.scale_file(*place)
            scale_seal = self._shards.publish(file, np.stack(scales), layout.scale_shard)
        for shard in (*layout.block_files(*place), *layout.clip_files(claim.segment, 0)):
            self._storage.sync(shard.rpartition("/")[0])
        return cls_seal, scale_seal


def _finite(features: Float16) -> bool:
    # The exponent of a half is all ones in NaN and infinity; integers compare ten times faster.
    bits = features.view(np.uint16)
    return not bool(((bits & np.uint16(0x7C00)) == np.uint16(0x7C00)).any())
