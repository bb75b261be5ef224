"""A recipe: a small file from which another team extracts the same store again and compares it.

Features are too large to send around; their digests, the videos' digests and the identity are not.
"""

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from cache_schema import field_rules
from cache_schema.clip import clip_id_rule, escape_problem
from cache_schema.errors import CorruptStore, InputError, Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.identity import FeatureIdentity
from cache_schema.reader import FeatureStore
from cache_schema.sealed_json import seal, unseal
from cache_schema.sharing.clip_digest import cls_digest
from cache_schema.sharing.feature_equality import clip_records
from cache_schema.storage.durable_files import replace_file

CLIPS_AT_ONCE: Final = 64
"""Clips whose CLS features are in memory together, where recipes are made and checked."""

_KIND: Final = "videodistill recipe 1"
_PROGRAM: Final = "videodistill-cache"

_digest_rule: Final = field_rules.text(empty=True, pattern="[0-9a-f]{32}")
_RULES: Final[Mapping[str, Rule]] = {
    "kind": field_rules.one_of(_KIND),
    "identity": field_rules.anything(),
    "digest": field_rules.text(pattern="[0-9a-f]{64}"),
    "created": field_rules.text(),
    "software": field_rules.text(),
    "version": field_rules.integer(),
    "clips": field_rules.sequence(field_rules.anything()),
}
_CLIP_RULES: Final[Mapping[str, Rule]] = {
    "clip_id": clip_id_rule,
    "source_path": field_rules.text(longest=4096, empty=True),
    "source_bytes": field_rules.integer(),
    "source_digest": _digest_rule,
    "start_s": field_rules.optional(field_rules.number(least=0.0)),
    "end_s": field_rules.optional(field_rules.number(above=0.0)),
    "backend": field_rules.text(longest=100, empty=True),
    "reason": field_rules.text(longest=64, empty=True, pattern="[a-z][a-z0-9_]*"),
    "cls_digest": _digest_rule,
    "patch_digest": _digest_rule,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeClip:
    """One clip of a recipe: which video, which part of it, and what came out.

    Raises:
        SchemaError: a field is out of range, or digests and reason do not go together; carries
            every problem.
    """

    clip_id: str
    source_path: str
    """The video, relative to its data set's folder; empty where its name could not be recorded."""
    source_bytes: int
    source_digest: str
    """BLAKE2b-128 of the video file."""
    start_s: float | None
    """Begin of the clip in its video; None for the video's begin."""
    end_s: float | None
    backend: str
    """Decoder and version that the features were made with."""
    reason: str
    """Why the clip has no features; empty if it has."""
    cls_digest: str
    """BLAKE2b-128 of the CLS features, little-endian float16 [N, D]; empty if there are none."""
    patch_digest: str
    """BLAKE2b-128 of the shard of the patch features, as in the manifest; empty without patches."""

    def __post_init__(self) -> None:
        problems = check_fields(asdict(self), _CLIP_RULES)
        if not problems:
            if self.source_path and (escape := escape_problem(self.source_path)) is not None:
                problems.append(Problem("source_path", escape))
            if self.start_s is not None and self.end_s is not None and self.start_s >= self.end_s:
                what = f"is {self.end_s}, not after start_s {self.start_s}"
                problems.append(Problem("end_s", what))
            if bool(self.cls_digest) == bool(self.reason):
                what = f"and the reason {self.reason!r} do not go together"
                problems.append(Problem("cls_digest", what))
            if self.patch_digest and not self.cls_digest:
                problems.append(Problem("patch_digest", "is given without a cls_digest"))
        if problems:
            raise SchemaError(f"recipe of clip {self.clip_id!r}", problems)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How a store was made, and the digests of what came out."""

    identity: FeatureIdentity
    created: str
    """When the recipe was written, ISO 8601 in UTC."""
    software: str
    """Program and version that wrote the recipe."""
    version: int
    """Manifest version of the store that it tells of."""
    clips: tuple[RecipeClip, ...]
    """The clips, sorted by id; those that failed in extraction too."""


def recipe_of(store: FeatureStore, *, on_clip: Callable[[int, int], None] | None = None) -> Recipe:
    """Returns the recipe of a store; reads the CLS features of all clips, and no patches.

    Args:
        store: the store, at the version wanted.
        on_clip: called with the number of clips done and that of all.

    Raises:
        CorruptStore: CLS features are damaged.
    """
    records = clip_records(store)
    ids = sorted(records)
    clips: list[RecipeClip] = []
    for start in range(0, len(ids), CLIPS_AT_ONCE):
        part = ids[start : start + CLIPS_AT_ONCE]
        digests = cls_digests(store, [clip_id for clip_id in part if records[clip_id].ok])
        for clip_id, outcome in zip(part, store.outcomes(part), strict=True):
            clips.append(
                RecipeClip(
                    clip_id=clip_id,
                    source_path=outcome.source_path,
                    source_bytes=outcome.source_bytes,
                    source_digest=outcome.source_digest,
                    start_s=outcome.start_s,
                    end_s=outcome.end_s,
                    backend=outcome.backend,
                    reason=outcome.reason,
                    cls_digest=digests.get(clip_id, ""),
                    patch_digest=records[clip_id].patch_digest,
                )
            )
        if on_clip is not None:
            on_clip(len(clips), len(ids))
    return Recipe(
        identity=store.identity,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software=f"{_PROGRAM} {_own_version()}",
        version=store.version,
        clips=tuple(clips),
    )


def cls_digests(store: FeatureStore, clip_ids: Sequence[str]) -> dict[str, str]:
    """Reads the CLS features of some clips; returns their digests by clip.

    Raises:
        CorruptStore: CLS features are damaged.
    """
    return dict(zip(clip_ids, map(cls_digest, store.read_cls(clip_ids)), strict=True))


def encode_recipe(recipe: Recipe) -> bytes:
    """Returns the content of a recipe's file: a line of JSON that carries its own checksum."""
    return seal(
        {
            "kind": _KIND,
            "identity": recipe.identity.to_json(),
            "digest": recipe.identity.digest,
            "created": recipe.created,
            "software": recipe.software,
            "version": recipe.version,
            "clips": [asdict(clip) for clip in recipe.clips],
        }
    )


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Writes a recipe, in place of an older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, encode_recipe(recipe))


def read_recipe(path: Path) -> Recipe:
    """Reads what ``write_recipe`` wrote, and nothing else.

    Raises:
        InputError: there is no such file, or it is no recipe, or was changed or cut.
        SchemaError: the recipe breaks its schema; carries every problem with its clip.
    """
    try:
        document = unseal(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read: {error.strerror or error}") from error
    except CorruptStore as error:
        raise InputError(
            f"{path} is no recipe, or was changed or cut after it was written: {error}"
        ) from error
    problems = check_fields(document, _RULES)
    if problems:
        raise SchemaError(f"recipe {path}", problems)
    clips: dict[str, RecipeClip] = {}
    for number, entry in enumerate(cast("list[object]", document["clips"])):
        try:
            clip = _clip_of(entry)
        except SchemaError as error:
            problems.extend(Problem(f"clips.{number}.{at}", what) for at, what in error.problems)
            continue
        if clip.clip_id in clips:
            what = f"is {clip.clip_id!r} a second time"
            problems.append(Problem(f"clips.{number}.clip_id", what))
        clips[clip.clip_id] = clip
    identity = None
    try:
        identity = FeatureIdentity.from_json(document["identity"])
    except SchemaError as error:
        problems.extend(Problem(f"identity.{at}", what) for at, what in error.problems)
    if identity is not None and identity.digest != document["digest"]:
        problems.append(Problem("digest", f"is not that of the identity, {identity.digest}"))
    if problems or identity is None:
        raise SchemaError(f"recipe {path}", problems)
    return Recipe(
        identity=identity,
        created=str(document["created"]),
        software=str(document["software"]),
        version=cast("int", document["version"]),
        clips=tuple(clips[clip_id] for clip_id in sorted(clips)),
    )


def _clip_of(entry: object) -> RecipeClip:
    if not isinstance(entry, Mapping):
        raise SchemaError("recipe clip", [("", f"is {type(entry).__name__}, not an object")])
    names = {field.name for field in fields(RecipeClip)}
    if entry.keys() != names:
        raise SchemaError("recipe clip", check_fields(entry, _CLIP_RULES))
    return RecipeClip(**entry)


def _own_version() -> str:
    try:
        return importlib.metadata.version(_PROGRAM)
    except importlib.metadata.PackageNotFoundError:
        return "of a source tree"
