"""Whether a store is what a recipe says: which clips differ, and whether their videos did already."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

from cache_schema.clip_digest import cls_digest
from cache_schema.feature_equality import ClipRecord, clip_records
from cache_schema.outcome import ClipOutcome
from cache_schema.reader import FeatureStore
from cache_schema.recipe import Recipe, RecipeClip


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
    other_bytes = []
    for number, clip in enumerate(recipe.clips, start=1):
        record = records.get(clip.clip_id)
        verdict = _verdict(clip, record, store)
        if verdict == "compare" and record is not None:
            arrays = tuple(_other_arrays(clip, record, store))
            verdict = "equal"
            if arrays:
                verdict = "other_bytes"
                backends = clip.backend, record.backend
                other_bytes.append(
                    OtherBytes(clip_id=clip.clip_id, arrays=arrays, backends=backends)
                )
        found[verdict].append(clip.clip_id)
        if on_clip is not None:
            on_clip(number, len(recipe.clips))
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


def _verdict(clip: RecipeClip, record: ClipRecord | None, store: FeatureStore) -> str:
    """Tells what can be said of a clip without its features; ``compare`` if that is nothing yet."""
    if record is None:
        return "missing"
    outcome = store.outcome(clip.clip_id)
    if _is_other_video(clip, outcome):
        return "other_videos"
    if (outcome.start_s, outcome.end_s) != (clip.start_s, clip.end_s):
        return "other_bounds"
    if clip.reason:
        return "unexpected" if record.ok else "equal"
    return "compare" if record.ok else "missing"


def _is_other_video(clip: RecipeClip, outcome: ClipOutcome) -> bool:
    # A video that could not be read has no digest, here or there.
    known = bool(clip.source_digest and outcome.source_digest)
    return known and clip.source_digest != outcome.source_digest


def _other_arrays(clip: RecipeClip, record: ClipRecord, store: FeatureStore) -> Iterator[str]:
    if cls_digest(store.read_cls([clip.clip_id])[0]) != clip.cls_digest:
        yield "cls"
    if record.patch_digest != clip.patch_digest:
        yield "patch"
