"""Taking another program's features into a store, with all that nobody told stated as unknown."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from cache_schema.blocks.block_filling import Float16, OnClip, fill_blocks
from cache_schema.errors import InputError, StoreAbsent
from cache_schema.exchange.feature_source import (
    FeatureSource,
    SourceClip,
    SourceSizes,
    UnusableClip,
    midpoints,
    to_half,
)
from cache_schema.identity import UNKNOWN, FeatureIdentity
from cache_schema.layout import StoreLayout
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.shards.measured_loss import MeasuredLoss
from cache_schema.storage.free_space import bytes_free
from cache_schema.store_root import create_store
from cache_schema.writer import StoreWriter

CHOSEN_FROM_UNKNOWN: Final = f"{UNKNOWN}-midpoint-1"
"""Frame policy of an import that takes N of T frames at floor((2n + 1) T / 2N), of which nobody told
how they were chosen from the video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportPlan:
    """An import before it starts."""

    identity: FeatureIdentity
    """What is known of the features, and so the store's identity."""
    clips: int
    """Clips of the source."""
    pending: tuple[str, ...]
    """Those still to be taken over."""
    refused: Mapping[str, str]
    """What is there and cannot be a clip, with the reason."""
    bytes_needed: int
    """Size of the pending clips' features in the store."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What an import did."""

    imported: int
    """Clips taken over."""
    failures: tuple[ClipOutcome, ...]
    """Clips that became failed rows."""
    skipped: int
    """Clips that the store had already, or that another import was working on."""
    refused: Mapping[str, str]
    """What was there and could not be a clip, with the reason."""
    rounding: MeasuredLoss | None
    """How far the store's float16 is from the source's numbers; None where nothing was imported."""

    @property
    def complete(self) -> bool:
        """Whether everything that was there is in the store."""
        return not self.failures and not self.refused


def imported_identity(
    source: FeatureSource,
    *,
    origin: str,
    frames: int | None = None,
    told: Mapping[str, object] | None = None,
) -> FeatureIdentity:
    """Returns the identity of a source's features, with all unknown that nobody told.

    A file of this project's export tells the identity of the store that it came from.

    Args:
        source: the features.
        origin: the importer's words for where they are from.
        frames: N, frames of a clip to keep; needed where clips have different numbers of them.
        told: fields of the identity that the importer knows, such as ``encoder``.

    Raises:
        InputError: clips have different numbers of frames and N was not given; or the file tells
            other sizes than it has.
        SchemaError: what was told is out of range.
    """
    sizes = source.sizes
    kept = frames or sizes.frames
    if kept is None:
        raise InputError(
            "The clips have different numbers of frames. Say how many to keep of each: --frames N "
            "takes those at the middles of N equal parts, and repeats frames of shorter clips."
        )
    known = _known_fields(source.identity, sizes)
    if kept != sizes.frames:
        known["frame_policy"] = CHOSEN_FROM_UNKNOWN
    fields = {**known, **(told or {})}
    return FeatureIdentity(
        **fields,  # type: ignore[arg-type]
        frames=kept,
        patches=sizes.patches,
        dim=sizes.dim,
        source="imported",
        origin=origin,
    )


def plan_import(
    source: FeatureSource,
    location: str | os.PathLike[str],
    identity: FeatureIdentity,
    *,
    retry_failed: bool = False,
) -> ImportPlan:
    """Compares a source with what a store holds, without writing to it.

    Raises:
        IdentityMismatch: the store holds other features.
        StoreForeign, StoreNewer, StoreOlder, CorruptStore: as ``open_store``.
    """
    try:
        with StoreWriter(location, identity) as writer:
            pending = writer.pending(source.clip_ids, retry_failed=retry_failed)
    except StoreAbsent:
        pending = list(source.clip_ids)
    layout = StoreLayout.of(identity, block_slots=1, segment_slots=1)
    return ImportPlan(
        identity=identity,
        clips=len(source.clip_ids),
        pending=tuple(pending),
        refused=source.refused,
        bytes_needed=len(pending) * layout.clip_bytes,
    )


def import_features(
    source: FeatureSource,
    location: str | os.PathLike[str],
    identity: FeatureIdentity,
    *,
    retry_failed: bool = False,
    on_clip: OnClip | None = None,
) -> ImportReport:
    """Takes a source's features into a store, which is created if absent.

    May be killed at any time and run again. A clip whose file is broken becomes a failed row.

    Args:
        source: the features.
        location: the store.
        identity: as ``imported_identity`` gives it.
        retry_failed: whether to try clips again that failed earlier.
        on_clip: called after each clip.

    Raises:
        InputError: too little room on the disk.
        IdentityMismatch: the store holds other features.
        StoreError, OSError: the store cannot be written.
    """
    plan = plan_import(source, location, identity, retry_failed=retry_failed)
    require_room(location, plan.bytes_needed)
    create_store(location, identity)
    reader = _ClipReader(source, identity)
    with StoreWriter(location, identity, job=f"import-{secrets.token_hex(4)}") as writer:
        outcomes = fill_blocks(
            writer, plan.pending, reader.read, patches=identity.patches, on_clip=on_clip
        )
    failures = tuple(outcome for outcome in outcomes if outcome.status is Status.FAILED)
    return ImportReport(
        imported=len(outcomes) - len(failures),
        failures=failures,
        skipped=plan.clips - len(outcomes),
        refused=source.refused,
        rounding=MeasuredLoss.total(reader.losses),
    )


def require_room(location: str | os.PathLike[str], needed: int) -> None:
    """Refuses what does not fit on the disk; object stores are asked nothing.

    Raises:
        InputError: with both sizes.
    """
    free = bytes_free(location)
    if free is not None and needed > free:
        raise InputError(
            f"The features need {needed:,} bytes and the disk of {location} has {free:,} free. "
            f"Free some, or put the store on another disk."
        )


def _known_fields(told: FeatureIdentity | None, sizes: SourceSizes) -> dict[str, object]:
    """Returns the fields that a file tells of its features; all are unknown where it tells none."""
    names = (
        "encoder", "weights_sha256", "quick_gelu", "token_space", "preprocess", "precision",
        "frame_policy",
    )  # fmt: skip
    if told is None:
        return dict.fromkeys(names, UNKNOWN)
    if told.dim != sizes.dim or sizes.patches not in {0, told.patches}:
        raise InputError(
            f"The file says that it holds {told.patches} patches of width {told.dim}, and holds "
            f"{sizes.patches} of width {sizes.dim}. Ask whoever wrote it."
        )
    fields = {name: getattr(told, name) for name in names}
    if sizes.patches:
        fields["pool"] = told.pool
    return fields


class _ClipReader:
    """Brings clips into a store's shape, and measures what rounding to float16 takes."""

    def __init__(self, source: FeatureSource, identity: FeatureIdentity) -> None:
        self._source = source
        self._identity = identity
        self.losses: list[MeasuredLoss] = []

    def read(self, clip_id: str, cls: Float16, patch: Float16) -> ClipOutcome:
        """Puts one clip's features into the block's arrays; returns what became of it."""
        try:
            clip = self._source.read(clip_id)
            return self._fit(clip_id, clip, cls, patch)
        except UnusableClip as error:
            return ClipOutcome(
                clip_id=clip_id, status=Status.FAILED, reason=error.reason, detail=error.detail
            )

    def _fit(self, clip_id: str, clip: SourceClip, cls: Float16, patch: Float16) -> ClipOutcome:
        tokens, wanted = len(clip.cls), self._identity
        found = (*clip.patch.shape[1:], clip.cls.shape[-1])
        if found != (wanted.patches, wanted.dim, wanted.dim):
            raise UnusableClip(
                "wrong_shape",
                f"has {found[0]} patches of width {found[2]}, not {wanted.patches} of width "
                f"{wanted.dim}",
            )
        if tokens != wanted.frames and wanted.frame_policy != CHOSEN_FROM_UNKNOWN:
            raise UnusableClip("wrong_shape", f"has {tokens} frames, not {wanted.frames}")
        chosen = midpoints(tokens, wanted.frames)
        for given, kept in ((clip.cls[chosen][:, None], cls[:, None]), (clip.patch[chosen], patch)):
            if given.size:
                kept[...] = to_half(given)
                self.losses.append(MeasuredLoss.between(given, kept))
        return ClipOutcome(
            clip_id=clip_id,
            status=Status.OK,
            frame_time=None if clip.frame_time is None else clip.frame_time[chosen],
            distinct_frames=len(np.unique(chosen)),
            source_path=clip.path,
            source_bytes=clip.size,
            source_digest=clip.digest,
            backend="imported",
            flags=clip.flags,
        )
