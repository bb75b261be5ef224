"""What a job would do, and whether the disk has room for it, before anything is started."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cache_schema import Clip, FeatureIdentity, InputError, StoreAbsent, StoreWriter
from cache_schema.layout import StoreLayout
from cache_schema.storage.free_space import bytes_free

_KEPT_FREE: Final = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractionPlan:
    """A job before it starts."""

    identity: FeatureIdentity
    """Identity of the features, and so of the store."""
    clips: int
    """Clips asked for."""
    pending: tuple[str, ...]
    """Ids of the clips to do, in the order asked for."""
    retried: frozenset[str]
    """Those of the pending that have failed before."""
    bytes_needed: int
    """Size of their features if all succeed."""
    bytes_free: int | None
    """Free space of the disk that holds the store; None of an object store, which has no end."""

    @property
    def skipped(self) -> int:
        """Clips that are done, failed earlier or belong to another job."""
        return self.clips - len(self.pending)

    def require_room(self) -> None:
        """Refuses a job whose features do not fit on the disk.

        Raises:
            InputError: with both sizes.
        """
        if self.bytes_free is None:
            return
        if self.bytes_needed + _KEPT_FREE > self.bytes_free:
            raise InputError(
                f"{len(self.pending)} clips need {_shown(self.bytes_needed)} and the disk has "
                f"{_shown(self.bytes_free)} free. Free some, name a store on another disk, or "
                "extract fewer clips."
            )


def plan_of(
    clips: Sequence[Clip],
    location: str | os.PathLike[str],
    identity: FeatureIdentity,
    *,
    retry_failed: bool,
) -> ExtractionPlan:
    """Compares a list of clips with what a store holds, without writing to it.

    Raises:
        InputError: two clips have one id.
        IdentityMismatch: the store holds other features.
    """
    ids = [clip.clip_id for clip in clips]
    if len(set(ids)) != len(ids):
        twice = next(clip_id for clip_id in ids if ids.count(clip_id) > 1)
        raise InputError(f"clip id {twice!r} is listed more than once; ids must be unique")
    try:
        with StoreWriter(location, identity) as writer:
            pending = writer.pending(ids, retry_failed=retry_failed)
            fresh = set(writer.pending(ids)) if retry_failed else set(pending)
    except StoreAbsent:
        pending, fresh = ids, set(ids)
    return ExtractionPlan(
        identity=identity,
        clips=len(ids),
        pending=tuple(pending),
        retried=frozenset(pending) - fresh,
        bytes_needed=len(pending) * bytes_per_clip(identity),
        bytes_free=bytes_free(location),
    )


def bytes_per_clip(identity: FeatureIdentity) -> int:
    """Returns the bytes of one clip's CLS and patch features, checksums and index included."""
    return StoreLayout.of(identity, block_slots=1, segment_slots=1).clip_bytes


def _shown(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
