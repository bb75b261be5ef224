"""How two stores differ: in identity, in clips, and in the features of the clips that both hold."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cache_schema.reader import FeatureStore
from cache_schema.sharing.feature_equality import ClipRecord, clip_records, differing_features

_ROWS_AT_ONCE: Final = 1024

Float16 = npt.NDArray[np.float16]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenDifference:
    """How far two sets of tokens are from one another."""

    max_abs: float
    """Largest absolute difference of two numbers."""
    cosine_min: float
    """Smallest cosine between a token and its counterpart."""
    cosine_mean: float
    """Mean of these cosines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipDifference:
    """One clip whose features, or frame times, are not the same in both stores."""

    clip_id: str
    source_differs: bool
    """Whether the features were made of different video files."""
    backends: tuple[str, str]
    """Decoders and versions, of A and of B."""
    time_max_abs: float | None
    """Largest difference of the presentation times of a frame, in seconds; None where they cannot be
    compared: other N, or an import without times."""
    cls: TokenDifference | None
    """None where there is nothing to measure: beyond the sample, of other shapes, or no patches."""
    patch: TokenDifference | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreDifference:
    """All that was found between a store A ("here") and a store B ("there")."""

    identity: tuple[str, ...]
    """A line per field of the identity that differs."""
    only_a: tuple[str, ...]
    """Clips that only A has features of."""
    only_b: tuple[str, ...]
    same: int
    """Clips with the same bytes in both."""
    differing: tuple[ClipDifference, ...]
    """Clips with other features or frame times, in the order of their ids."""

    @property
    def equal(self) -> bool:
        """Whether both stores hold the same features of the same clips."""
        return not (self.identity or self.only_a or self.only_b or self.differing)

    def to_json(self) -> dict[str, object]:
        """Returns everything as plain JSON values."""
        return {**asdict(self), "equal": self.equal}


def compare_stores(
    a: FeatureStore,
    b: FeatureStore,
    *,
    sample: int | None = None,
    on_clip: Callable[[int, int], None] | None = None,
) -> StoreDifference:
    """Compares two stores clip by clip.

    Whether a clip is the same is always found out: by the digests of the manifests for patches, which
    costs no reading, and by reading for CLS features that stand among other neighbours. The sample
    only bounds the clips whose patches are read to tell how far apart they are.

    Args:
        a: the first store.
        b: the second.
        sample: most clips, evenly spread over those that differ, whose features are measured; all by
            default.
        on_clip: called with the number of clips measured and the number to be measured.

    Raises:
        CorruptStore: features that had to be read are damaged.
    """
    records = clip_records(a), clip_records(b)
    ids_a, ids_b = ({clip for clip, found in part.items() if found.ok} for part in records)
    common = sorted(ids_a & ids_b)
    comparable = _shape(a) == _shape(b)
    differing = common
    if comparable:
        found_other = differing_features((a, b), records, common).keys() | _other_times(
            a, b, common
        )
        differing = sorted(found_other)
    measured = set(_spread(differing, sample) if comparable else [])
    found = []
    for clip_id in differing:
        pair = records[0][clip_id], records[1][clip_id]
        found.append(_difference((a, b), pair, clip_id, measure=clip_id in measured))
        if on_clip is not None and clip_id in measured:
            on_clip(sum(difference.cls is not None for difference in found), len(measured))
    return StoreDifference(
        identity=tuple(a.identity.differences(b.identity)),
        only_a=tuple(sorted(ids_a - ids_b)),
        only_b=tuple(sorted(ids_b - ids_a)),
        same=len(common) - len(found),
        differing=tuple(found),
    )


def token_difference(one: Float16, other: Float16) -> TokenDifference:
    """Measures how far two sets of tokens are apart.

    Args:
        one: float16 [..., D].
        other: float16 of the same shape.
    """
    x, y = (array.reshape(-1, array.shape[-1]).astype(np.float64) for array in (one, other))
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    # Two equal tokens of length zero point the same way; one of them beside another does not.
    cosine = np.where((x == y).all(axis=1), 1.0, 0.0)
    np.divide((x * y).sum(axis=1), lengths, out=cosine, where=lengths > 0)
    return TokenDifference(
        max_abs=float(np.abs(x - y).max()),
        cosine_min=float(cosine.min()),
        cosine_mean=float(cosine.mean()),
    )


def _difference(
    stores: tuple[FeatureStore, FeatureStore],
    records: tuple[ClipRecord, ClipRecord],
    clip_id: str,
    *,
    measure: bool,
) -> ClipDifference:
    cls = patch = None
    if measure:
        cls = token_difference(*(store.read_cls([clip_id]) for store in stores))
        if stores[0].identity.patches:
            patch = token_difference(*(store.read_patches([clip_id]) for store in stores))
    return ClipDifference(
        clip_id=clip_id,
        source_differs=records[0].source_digest != records[1].source_digest,
        backends=(records[0].backend, records[1].backend),
        time_max_abs=_time_difference(*(store.frame_times(clip_id) for store in stores)),
        cls=cls,
        patch=patch,
    )


def _other_times(a: FeatureStore, b: FeatureStore, clip_ids: Sequence[str]) -> set[str]:
    other = set[str]()
    for start in range(0, len(clip_ids), _ROWS_AT_ONCE):
        part = clip_ids[start : start + _ROWS_AT_ONCE]
        times = [store.rows(part, ["frame_time"]).column(0).to_pylist() for store in (a, b)]
        other.update(clip for clip, one, two in zip(part, *times, strict=True) if one != two)
    return other


def _time_difference(a: Float64, b: Float64) -> float | None:
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    largest = float(np.abs(a - b).max()) if len(a) == len(b) else np.nan
    return None if np.isnan(largest) else largest


def _shape(store: FeatureStore) -> tuple[object, ...]:
    identity = store.identity
    return identity.frames, identity.patches, identity.dim, identity.dtype


def _spread(clip_ids: Sequence[str], sample: int | None) -> list[str]:
    if sample is None or sample >= len(clip_ids):
        return list(clip_ids)
    return [clip_ids[number * len(clip_ids) // sample] for number in range(sample)]
