"""How two stores differ: in identity, in clips, and in the features of the clips that both hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cache_schema.outcome import Status
from cache_schema.reader import FeatureStore

_CLS_CLIPS_AT_ONCE: Final = 64

Float16 = npt.NDArray[np.float16]


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
    """Largest difference of the presentation times of a frame, in seconds; None for different N."""
    cls: TokenDifference | None
    """None where the features were not read: beyond the sample, or of other shapes."""
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
    pair = _Pair(a, b)
    suspects = set(pair.common)
    if pair.comparable:
        suspects = {clip_id for clip_id in pair.common if not pair.same_record(clip_id)}
        suspects.difference_update(pair.equal_cls(sorted(filter(pair.same_patches, suspects))))
    differing = sorted(suspects)
    measured = set(_spread(differing, sample) if pair.comparable else [])
    found = []
    for clip_id in differing:
        found.append(pair.difference(clip_id, measure=clip_id in measured))
        if on_clip is not None and clip_id in measured:
            on_clip(sum(difference.cls is not None for difference in found), len(measured))
    return StoreDifference(
        identity=tuple(a.identity.differences(b.identity)),
        only_a=tuple(sorted(pair.rows_a.keys() - pair.rows_b.keys())),
        only_b=tuple(sorted(pair.rows_b.keys() - pair.rows_a.keys())),
        same=len(pair.common) - len(found),
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


_COLUMNS: Final = (
    "clip_id", "status", "slot", "source_digest", "backend", "cls_digest", "patch_digest"
)  # fmt: skip


class _Pair:
    """Two stores, and what their manifests say of the clips that have features."""

    def __init__(self, a: FeatureStore, b: FeatureStore) -> None:
        self._a, self._b = a, b
        self.rows_a, self.rows_b = _ok_rows(a), _ok_rows(b)
        self.common = sorted(self.rows_a.keys() & self.rows_b.keys())
        self.comparable = _shape(a) == _shape(b)

    def same_record(self, clip_id: str) -> bool:
        """Tells whether digests alone say that a clip is the same in both stores."""
        a, b = self.rows_a[clip_id], self.rows_b[clip_id]
        same_cls = all(a[name] == b[name] for name in ("cls_digest", "slot"))
        return same_cls and self.same_patches(clip_id)

    def same_patches(self, clip_id: str) -> bool:
        a, b = self.rows_a[clip_id], self.rows_b[clip_id]
        same_times = np.array_equal(self._a.frame_times(clip_id), self._b.frame_times(clip_id))
        return a["patch_digest"] == b["patch_digest"] and same_times

    def equal_cls(self, clip_ids: Sequence[str]) -> Iterator[str]:
        """Yields those of some clips whose CLS features, which are read, are the same."""
        for start in range(0, len(clip_ids), _CLS_CLIPS_AT_ONCE):
            part = clip_ids[start : start + _CLS_CLIPS_AT_ONCE]
            one, other = (store.read_cls(part).view(np.uint16) for store in (self._a, self._b))
            equal = (one == other).all(axis=(1, 2))
            yield from (clip_id for clip_id, same in zip(part, equal, strict=True) if same)

    def difference(self, clip_id: str, *, measure: bool) -> ClipDifference:
        """Describes a clip that is not the same; reads its features to measure them."""
        a, b = self.rows_a[clip_id], self.rows_b[clip_id]
        times = [store.frame_times(clip_id) for store in (self._a, self._b)]
        cls = patch = None
        if measure:
            stores, ids = (self._a, self._b), [clip_id]
            cls = token_difference(*(store.read_cls(ids) for store in stores))
            patch = token_difference(*(store.read_patches(ids) for store in stores))
        same_length = len(times[0]) == len(times[1])
        return ClipDifference(
            clip_id=clip_id,
            source_differs=a["source_digest"] != b["source_digest"],
            backends=(str(a["backend"]), str(b["backend"])),
            time_max_abs=float(np.abs(times[0] - times[1]).max()) if same_length else None,
            cls=cls,
            patch=patch,
        )


def _ok_rows(store: FeatureStore) -> dict[str, Mapping[str, object]]:
    table = store.manifest().select(list(_COLUMNS))
    return {
        row["clip_id"]: row
        for batch in table.to_batches(max_chunksize=4096)
        for row in batch.to_pylist()
        if row["status"] == Status.OK
    }


def _shape(store: FeatureStore) -> tuple[object, ...]:
    identity = store.identity
    return identity.frames, identity.patches, identity.dim, identity.dtype


def _spread(clip_ids: Sequence[str], sample: int | None) -> list[str]:
    if sample is None or sample >= len(clip_ids):
        return list(clip_ids)
    return [clip_ids[number * len(clip_ids) // sample] for number in range(sample)]
