"""Whether two stores hold the same bytes of a clip: told by digests where possible, else by reading."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from cache_schema.outcome import Status
from cache_schema.reader import FeatureStore

_CLS_CLIPS_AT_ONCE: Final = 64
_ROWS_AT_ONCE: Final = 4096

ArrayName = Literal["cls", "patch"]


class ClipRecord(NamedTuple):
    """What a manifest says of one clip's features."""

    ok: bool
    segment: int
    slot: int
    cls_digest: str
    patch_digest: str
    source_digest: str
    backend: str


def clip_records(store: FeatureStore) -> dict[str, ClipRecord]:
    """Returns the records of all clips of a store, failed ones included."""
    names = ["clip_id", "status", *ClipRecord._fields[1:]]
    return {
        clip_id: ClipRecord(status == Status.OK, *rest)
        for batch in store.manifest(names).to_batches(max_chunksize=_ROWS_AT_ONCE)
        for clip_id, status, *rest in zip(*(c.to_pylist() for c in batch.columns), strict=True)
    }


def differing_features(
    stores: tuple[FeatureStore, FeatureStore],
    records: tuple[Mapping[str, ClipRecord], Mapping[str, ClipRecord]],
    clip_ids: Sequence[str],
) -> dict[str, ArrayName]:
    """Finds the clips of which two stores hold different bytes.

    Patches are compared by their digests. CLS features, and the scales of int8 patches, share a shard
    with those of other clips; they are read where the two shards may differ.

    Args:
        stores: two stores with features of one shape.
        records: their clips' records.
        clip_ids: clips that have features in both.

    Returns:
        The clips that differ, each with the array that does: ``patch`` goes before ``cls``.

    Raises:
        CorruptStore: CLS features that had to be read are damaged.
    """
    found: dict[str, ArrayName] = {}
    unsure = []
    # The digest of int8 patches does not cover their scales.
    quantised = any(store.identity.quantised != "none" for store in stores)
    for clip_id in clip_ids:
        one, other = (record[clip_id] for record in records)
        if one.patch_digest != other.patch_digest:
            found[clip_id] = "patch"
        elif quantised or (one.cls_digest, one.slot) != (other.cls_digest, other.slot):
            unsure.append(clip_id)
    for start in range(0, len(unsure), _CLS_CLIPS_AT_ONCE):
        found |= _differing_in_blocks(stores, unsure[start : start + _CLS_CLIPS_AT_ONCE])
    return found


def _differing_in_blocks(
    stores: tuple[FeatureStore, FeatureStore], clip_ids: Sequence[str]
) -> dict[str, ArrayName]:
    """Compares what shares a shard with other clips: CLS features, and the scales of int8 patches."""
    cls = _other_rows(*(store.read_cls(clip_ids) for store in stores))
    scales = _other_rows(*(store.read_patch_scales(clip_ids) for store in stores))
    differing: dict[str, ArrayName] = dict.fromkeys(compress(clip_ids, cls), "cls")
    return differing | dict.fromkeys(compress(clip_ids, scales), "patch")


def _other_rows(
    one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    # As bytes: 0.0 and -0.0 are different ones.
    other_bytes = one.view(np.uint8) != other.view(np.uint8)
    rows: npt.NDArray[np.bool_] = other_bytes.any(axis=(1, 2))
    return rows
