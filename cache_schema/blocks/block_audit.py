"""What can be wrong with the files of one committed block and with the features in them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cache_schema.blocks.block_commit import BlockCommit, CommittedClip, FileSeal
from cache_schema.layout import ShardShape
from cache_schema.outcome import Status
from cache_schema.shards.int8_tokens import MISSING, Float32, Int8, dequantise
from cache_schema.shards.shard_audit import Flaw, feature_flaws, length_flaws, read_features
from cache_schema.store_root import StoreRoot


class PlacedFlaw(NamedTuple):
    """One flaw, with the file and, where it is one clip's, the clip."""

    flaw: Flaw
    place: str
    clip_id: str | None


def block_flaws(root: StoreRoot, commit: BlockCommit, *, quick: bool) -> Iterator[PlacedFlaw]:
    """Checks the files of a block against its commit, and unless ``quick`` every feature in them."""
    audit = _BlockAudit(root, commit, quick=quick)
    if not audit.ok:
        return
    yield from audit.cls()
    scales: Float32 | None = None
    if root.layout.quantised:
        flaws, scales = audit.scales()
        yield from flaws
    if root.layout.patches:
        for clip in audit.ok:
            yield from audit.patch(clip, scales)


class _BlockAudit:
    def __init__(self, root: StoreRoot, commit: BlockCommit, *, quick: bool) -> None:
        self._root = root
        self._layout = root.layout
        self._commit = commit
        self._quick = quick
        self.ok = [clip for clip in commit.clips if clip.outcome.status is Status.OK]

    def cls(self) -> Iterator[PlacedFlaw]:
        """Yields the flaws of the CLS features."""
        place = self._layout.cls_file(self._commit.segment, self._commit.block)
        flaws, features = self._read(place, self._commit.cls, self._layout.cls_shard, len(self.ok))
        for clip, row in zip(self.ok, features, strict=False):
            for flaw in feature_flaws(row.reshape(-1, 1, self._layout.dim)):
                yield PlacedFlaw(flaw, place, clip.outcome.clip_id)
        yield from (PlacedFlaw(flaw, place, None) for flaw in flaws)

    def scales(self) -> tuple[list[PlacedFlaw], Float32]:
        """Returns the flaws of a block's int8 scales, and the scales of its clips that are sound."""
        place = self._layout.scale_file(self._commit.segment, self._commit.block)
        shard = self._layout.scale_shard
        flaws, values = self._read(place, self._commit.scale, shard, len(self.ok))
        found = values.astype(np.float32, copy=False)
        # Written so that NaN fails too.
        wrong = ~((found >= 0) & (found < np.inf)).all(axis=1)
        if wrong.any():
            what = f"holds scales that are no positive numbers, of {int(wrong.sum())} clips"
            flaws.append(Flaw("error", "nonfinite", what))
        sound = found if not wrong.any() else found[:0]
        return [PlacedFlaw(flaw, place, None) for flaw in flaws], sound

    def patch(self, clip: CommittedClip, scales: Float32 | None) -> Iterator[PlacedFlaw]:
        """Yields the flaws of one clip's patches."""
        layout = self._layout
        place = layout.patch_file(self._commit.segment, clip.slot)
        flaws, values = self._read(place, clip.patch, layout.patch_shard, layout.frames)
        tokens = values.reshape(-1, layout.patches, layout.dim)
        if scales is None:
            flaws += feature_flaws(tokens.astype(np.float16, copy=False))
        else:
            missing = int((tokens == MISSING).sum())
            if missing:
                flaws.append(Flaw("error", "nonfinite", f"holds {missing} values that mean none"))
            rank = clip.slot % layout.block_slots
            if len(tokens) and rank < len(scales):
                scale = scales[rank].reshape(-1, layout.patches)
                flaws += feature_flaws(_restored(tokens.astype(np.int8), scale))
        yield from (PlacedFlaw(flaw, place, clip.outcome.clip_id) for flaw in flaws)

    def _read(
        self, place: str, seal: FileSeal | None, shape: ShardShape, present: int
    ) -> tuple[list[Flaw], npt.NDArray[np.generic]]:
        """Returns a shard's flaws, and its values unless ``quick`` or they cannot be read."""
        flaws = length_flaws(self._root.storage, place, seal, shape, present)
        if seal is None:
            flaws.append(Flaw("error", "commit", "is not told of by its block's commit"))
        if flaws or self._quick:
            return flaws, np.empty((0, shape.values), dtype=shape.dtype)
        return read_features(self._root.storage, place, seal, shape, present)


def _restored(values: Int8, scale: Float32) -> npt.NDArray[np.float16]:
    out = np.empty(values.shape, dtype=np.float16)
    dequantise(values, scale, out)
    return out
