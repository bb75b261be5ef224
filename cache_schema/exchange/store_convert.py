"""Making a smaller, lossy variant of a store, with the loss measured clip by clip."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cache_schema.blocks.block_filling import Float16, OnClip, ReadClip, fill_blocks
from cache_schema.errors import InputError, StoreAbsent
from cache_schema.exchange.store_import import require_room
from cache_schema.identity import FeatureIdentity
from cache_schema.layout import StoreLayout
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.reader import FeatureStore, open_store
from cache_schema.shards.measured_loss import MeasuredLoss
from cache_schema.store_root import create_store, read_root
from cache_schema.writer import StoreWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversionPlan:
    """A conversion before it starts."""

    identity: FeatureIdentity
    """Identity of the variant."""
    pending: tuple[str, ...]
    """Clips still to be converted, failed rows included."""
    clips: int
    """Clips of the source, failed rows included."""
    source_bytes: int
    """Size of the source's features."""
    target_bytes: int
    """Size that the variant's features will have."""
    bytes_needed: int
    """Part of them that is still to be written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversionReport:
    """What a conversion did, and what it cost."""

    converted: int
    """Clips converted by this run."""
    skipped: int
    """Clips that the variant had already, or that another conversion was working on."""
    loss: MeasuredLoss | None
    """Loss of all clips that the variant holds now."""


def plan_conversion(
    source: FeatureStore,
    target: str | os.PathLike[str],
    *,
    pool: tuple[int, int] | None = None,
    int8: bool = False,
) -> ConversionPlan:
    """Compares a store with its variant, without writing.

    Args:
        source: the store, at the version it was opened with.
        target: location of the variant.
        pool: rows and columns that patch grids are averaged to.
        int8: whether patches are kept as int8 with a scale per token.

    Raises:
        InputError: nothing is to be reduced, or not these features; source and target are one.
        IdentityMismatch: the target holds other features.
        StoreForeign, StoreNewer, StoreOlder, CorruptStore: as ``open_store``, of the target.
    """
    if pool is None and not int8:
        raise InputError("Say what to reduce: int8, pooled patches, or both.")
    identity = source.identity.reduced(pool=pool, int8=int8)
    clip_ids = _all_clips(source)
    try:
        with StoreWriter(target, identity) as writer:
            pending = writer.pending(clip_ids)
    except StoreAbsent:
        pending = clip_ids
    before, after = (
        StoreLayout.of(one, block_slots=1, segment_slots=1).clip_bytes
        for one in (source.identity, identity)
    )
    return ConversionPlan(
        identity=identity,
        pending=tuple(pending),
        clips=len(clip_ids),
        source_bytes=len(source) * before,
        target_bytes=len(source) * after,
        bytes_needed=sum(clip_id in source for clip_id in pending) * after,
    )


def convert_store(
    source: FeatureStore,
    target: str | os.PathLike[str],
    *,
    pool: tuple[int, int] | None = None,
    int8: bool = False,
    on_clip: OnClip | None = None,
) -> ConversionReport:
    """Writes a smaller, lossy variant of a store's features into a store of its own.

    May be killed at any time and run again. Failed rows are taken over, so that the variant accounts
    for the same clips.

    Args:
        source: the store, at the version it was opened with.
        target: location of the variant, which is created if absent.
        pool: rows and columns that patch grids are averaged to.
        int8: whether patches are kept as int8 with a scale per token.
        on_clip: called after each clip.

    Raises:
        IdentityMismatch, StoreError: as ``plan_conversion``.
        InputError: too little room on the disk.
        CorruptStore: features of the source are damaged.
        OSError: the variant cannot be written.
    """
    plan = plan_conversion(source, target, pool=pool, int8=int8)
    require_room(target, plan.bytes_needed)
    sizes = read_root(source.location).layout
    create_store(
        target,
        plan.identity,
        block_slots=sizes.block_slots,
        segment_slots=sizes.segment_slots,
    )
    with StoreWriter(target, plan.identity, job=f"convert-{secrets.token_hex(4)}") as writer:
        outcomes = fill_blocks(
            writer,
            plan.pending,
            _reader_of(source),
            patches=source.identity.patches,
            on_clip=on_clip,
        )
    return ConversionReport(
        converted=len(outcomes),
        skipped=plan.clips - len(outcomes),
        loss=measured_loss(open_store(target)),
    )


def measured_loss(store: FeatureStore) -> MeasuredLoss | None:
    """Returns the loss of all clips of a store; None where nothing was lost, or none is there."""
    losses = store.manifest(["loss"]).column("loss").to_pylist()
    return MeasuredLoss.total(MeasuredLoss.from_json(loss) for loss in losses if loss is not None)


def _all_clips(source: FeatureStore) -> list[str]:
    clip_ids: Sequence[str] = source.manifest(["clip_id"]).column("clip_id").to_pylist()
    return list(clip_ids)


def _reader_of(source: FeatureStore) -> ReadClip:
    def read(clip_id: str, cls: Float16, patch: Float16) -> ClipOutcome:
        outcome = source.outcome(clip_id)
        if outcome.status is Status.OK:
            source.read_cls([clip_id], out=cls[None])
            source.read_patches([clip_id], out=patch[None])
        # Measured anew, against the features that are converted.
        return replace(outcome, loss=None)

    return read
