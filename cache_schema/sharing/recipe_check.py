"""Whether a store is what a recipe says: which clips differ, and whether their videos did already."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

from cache_schema.outcome import ClipOutcome, Status
from cache_schema.reader import FeatureStore
from cache_schema.sharing.feature_equality import clip_records
from cache_schema.sharing.recipe import CLIPS_AT_ONCE, Recipe, RecipeClip, cls_digests


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherBytes:
    """A clip with other features, made of the same video and the same part of it."""

    clip_id: str
    arrays: tuple[str, ...]
    """``cls``, ``patch``, or both."""
    backends: tuple[str, str]
    """Decoders and versions, of the recipe and of the store: a common reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeCheck:
    """A store held against a recipe. Whether other bytes are close enough, digests cannot tell."""

    identity: tuple[str, ...]
    """A line per field of the identity that differs: recipe here, store there."""
    other_videos: tuple[str, ...]
    """Clips whose video file is another one than the recipe's; their features are not compared."""
    other_bounds: tuple[str, ...]
    """Clips cut otherwise out of the same video."""
    missing: tuple[str, ...]
    """Clips that the store has no features of, and should."""
    unexpected: tuple[str, ...]
    """Clips that the store has features of, and that failed for the recipe."""
    other_bytes: tuple[OtherBytes, ...]
    equal: int
    """Clips that are the same, byte for byte or in having failed."""
    extra: int
    """Clips of the store that the recipe does not know; no fault."""

    @property
    def same(self) -> bool:
        """Whether every clip of the recipe is the same in the store."""
        wrong = (self.identity, self.other_videos, self.other_bounds, self.missing)
        return not any((*wrong, self.unexpected, self.other_bytes))

    def to_json(self) -> dict[str, object]:
        """Returns everything as plain JSON values."""
        return {**asdict(self), "same": self.same}


def check_recipe(
    recipe: Recipe, store: FeatureStore, *, on_clip: Callable[[int, int], None] | None = None
) -> RecipeCheck:
    """Compares a store with a recipe; reads CLS features, and of patches only the manifest's digests.

    Args:
        recipe: what the store should be.
        store: the store.
        on_clip: called with the number of clips done and that of all.

    Raises:
        CorruptStore: CLS features are damaged.
    """
    records = clip_records(store)
    found: dict[str, list[str]] = {name: [] for name in _VERDICTS}
    other_bytes: list[OtherBytes] = []
    for start in range(0, len(recipe.clips), CLIPS_AT_ONCE):
        part = recipe.clips[start : start + CLIPS_AT_ONCE]
        known = [clip.clip_id for clip in part if clip.clip_id in records]
        outcomes = dict(zip(known, store.outcomes(known), strict=True))
        verdicts = {clip.clip_id: _verdict(clip, outcomes.get(clip.clip_id)) for clip in part}
        compared = [clip for clip in part if verdicts[clip.clip_id] == "equal" and not clip.reason]
        digests = cls_digests(store, [clip.clip_id for clip in compared])
        for clip in compared:
            record = records[clip.clip_id]
            pairs = {
                "cls": (digests[clip.clip_id], clip.cls_digest),
                "patch": (record.patch_digest, clip.patch_digest),
            }
            arrays = tuple(name for name, (here, there) in pairs.items() if here != there)
            if arrays:
                verdicts[clip.clip_id] = "other_bytes"
                backends = clip.backend, record.backend
                other_bytes.append(
                    OtherBytes(clip_id=clip.clip_id, arrays=arrays, backends=backends)
                )
        for clip_id, verdict in verdicts.items():
            found[verdict].append(clip_id)
        if on_clip is not None:
            on_clip(min(start + CLIPS_AT_ONCE, len(recipe.clips)), len(recipe.clips))
    return RecipeCheck(
        identity=tuple(recipe.identity.differences(store.identity)),
        other_videos=tuple(found["other_videos"]),
        other_bounds=tuple(found["other_bounds"]),
        missing=tuple(found["missing"]),
        unexpected=tuple(found["unexpected"]),
        other_bytes=tuple(other_bytes),
        equal=len(found["equal"]),
        extra=len(records.keys() - {clip.clip_id for clip in recipe.clips}),
    )


_VERDICTS: Final = ("other_videos", "other_bounds", "missing", "unexpected", "other_bytes", "equal")


def _verdict(clip: RecipeClip, outcome: ClipOutcome | None) -> str:
    """Tells what can be said of a clip without its features, which may be equal at most."""
    if outcome is None:
        return "missing"
    # A video that could not be read has no digest, here or there.
    known = bool(clip.source_digest and outcome.source_digest)
    if known and clip.source_digest != outcome.source_digest:
        return "other_videos"
    if (outcome.start_s, outcome.end_s) != (clip.start_s, clip.end_s):
        return "other_bounds"
    is_ok = outcome.status is Status.OK
    if clip.reason:
        return "unexpected" if is_ok else "equal"
    return "equal" if is_ok else "missing"
