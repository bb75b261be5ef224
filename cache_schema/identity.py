"""Everything that changes a feature, as one value whose digest names the store."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal, Self, cast

from cache_schema import field_rules
from cache_schema.errors import Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields

FRAME_POLICY: Final = "midpoint-pts-1"
"""Frame n of N is the one presented at start + (n + 0.5) / N x duration; version 1 of that rule."""

_PREPROCESS_RULES: Final[Mapping[str, Rule]] = {
    "image_size": field_rules.integer(least=1, most=16384),
    "resize_mode": field_rules.one_of("shortest", "squash", "longest"),
    "interpolation": field_rules.one_of("bicubic", "bilinear"),
    "mean": field_rules.sequence(field_rules.number(), length=3),
    "std": field_rules.sequence(field_rules.number(above=0.0), length=3),
}
_IDENTITY_RULES: Final[Mapping[str, Rule]] = {
    "encoder": field_rules.text(longest=200),
    "weights_sha256": field_rules.text(pattern="[0-9a-f]{64}"),
    "quick_gelu": field_rules.boolean(),
    "token_space": field_rules.one_of("joint", "trunk"),
    "dim": field_rules.integer(least=1, most=1 << 16),
    "patches": field_rules.integer(least=1, most=1 << 16),
    "preprocess": field_rules.anything(),
    "frame_policy": field_rules.text(longest=64, pattern="[a-z0-9][a-z0-9.-]*"),
    "frames": field_rules.integer(least=1, most=1 << 16),
    "precision": field_rules.one_of("fp32", "bf16", "fp16"),
    "dtype": field_rules.one_of("float16"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """How a frame becomes the encoder's input.

    Raises:
        SchemaError: a field is outside its range.
    """

    image_size: int
    """Height and width of the encoder's input, in pixels."""
    resize_mode: Literal["shortest", "squash", "longest"]
    """Resize the shortest side and crop the centre; resize both sides; resize the longest and pad."""
    interpolation: Literal["bicubic", "bilinear"]
    """Resampling filter, antialiased."""
    mean: tuple[float, float, float]
    """Subtracted from each colour channel, with pixels scaled to 0..1."""
    std: tuple[float, float, float]
    """Divides each colour channel after the mean is subtracted."""

    def __post_init__(self) -> None:
        problems = check_fields(_field_values(self), _PREPROCESS_RULES)
        if problems:
            raise SchemaError("preprocessing", problems)
        # One spelling per value, 0.0 for 0 and -0.0: equal preprocessing has one digest.
        object.__setattr__(self, "mean", tuple(float(value) + 0.0 for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureIdentity:
    """Everything that changes a feature. Two stores with equal identities hold equal features.

    Raises:
        SchemaError: a field is outside its range; carries every problem.
    """

    encoder: str
    """Name of the model's architecture as open_clip spells it, such as ``ViT-B-32``."""
    weights_sha256: str
    """SHA-256 of the weights, in lower-case hexadecimal."""
    quick_gelu: bool
    """Whether the towers use QuickGELU in place of GELU."""
    token_space: Literal["joint", "trunk"]
    """``joint``: final norm and projection on every token; ``trunk``: the tower's raw width."""
    dim: int
    """Width D of a feature."""
    patches: int
    """Number P of patch tokens of a frame."""
    preprocess: Preprocess
    """How a frame becomes the encoder's input."""
    frames: int
    """Number N of frames of a clip."""
    precision: Literal["fp32", "bf16", "fp16"]
    """Arithmetic that the encoder ran in."""
    frame_policy: str = FRAME_POLICY
    """Which frames of a clip are taken, with the version of that rule."""
    dtype: Literal["float16"] = "float16"
    """Number type that the features are stored in."""

    def __post_init__(self) -> None:
        problems = check_fields(_field_values(self), _IDENTITY_RULES)
        preprocess: object = self.preprocess
        if not isinstance(preprocess, Preprocess):
            problems.append(Problem("preprocess", "is not a Preprocess"))
        if problems:
            raise SchemaError("feature identity", problems)

    def to_json(self) -> dict[str, object]:
        """Returns the identity as plain JSON values, sharing no state with it."""
        values = _field_values(self)
        preprocess = _field_values(self.preprocess)
        preprocess["mean"] = list(self.preprocess.mean)
        preprocess["std"] = list(self.preprocess.std)
        values["preprocess"] = preprocess
        return values

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Reads what ``to_json`` wrote, and nothing else.

        Raises:
            SchemaError: fields are missing, unknown or out of range; carries every problem.
        """
        if not isinstance(document, Mapping):
            raise SchemaError(
                "feature identity", [("", f"is {type(document).__name__}, not an object")]
            )
        problems = check_fields(document, _IDENTITY_RULES)
        preprocess = document.get("preprocess")
        if isinstance(preprocess, Mapping):
            problems.extend(check_fields(preprocess, _PREPROCESS_RULES, "preprocess"))
        elif "preprocess" in document:
            problems.append(Problem("preprocess", f"is {type(preprocess).__name__}, not an object"))
        if problems:
            raise SchemaError("feature identity", problems)
        inner = cast("dict[str, object]", dict(cast("Mapping[str, object]", preprocess)))
        inner["mean"] = tuple(cast("list[float]", inner["mean"]))
        inner["std"] = tuple(cast("list[float]", inner["std"]))
        values = {**document, "preprocess": Preprocess(**inner)}  # type: ignore[arg-type]
        return cls(**values)

    @property
    def digest(self) -> str:
        """SHA-256 of the identity's canonical JSON (sorted keys, no spaces, ASCII), 64 hex digits."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    @property
    def name(self) -> str:
        """Folder name of a store of this identity: the encoder, and 12 digits of the digest."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.encoder.lower()).strip("-")[:60]
        return f"{slug or 'encoder'}-{self.digest[:12]}"

    def differences(self, other: "FeatureIdentity") -> list[str]:
        """Returns a line per field in which two identities differ: ``dim: 512 here, 768 there``."""
        here, there = _flat(self.to_json()), _flat(other.to_json())
        return [
            f"{path}: {here[path]!r} here, {there[path]!r} there"
            for path in here
            if here[path] != there[path]
        ]


def _field_values(record: "Preprocess | FeatureIdentity") -> dict[str, object]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _flat(document: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
