"""Everything that changes a feature, as one value whose digest names the store."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, Self, cast

from cache_schema import field_rules
from cache_schema.errors import InputError, Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.shards.patch_grid import Pooling

UNKNOWN: Final = "unknown"
"""What an imported store says of a field that nobody told."""

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
    "weights_sha256": field_rules.text(pattern=f"[0-9a-f]{{64}}|{UNKNOWN}"),
    "quick_gelu": field_rules.either(field_rules.boolean(), field_rules.one_of(UNKNOWN)),
    "token_space": field_rules.one_of("joint", "trunk", UNKNOWN),
    "dim": field_rules.integer(least=1, most=1 << 16),
    "patches": field_rules.integer(most=1 << 16),
    "preprocess": field_rules.anything(),
    "frame_policy": field_rules.text(longest=64, pattern="[a-z0-9][a-z0-9.-]*"),
    "frames": field_rules.integer(least=1, most=1 << 16),
    "precision": field_rules.one_of("fp32", "bf16", "fp16", UNKNOWN),
    "dtype": field_rules.one_of("float16"),
    "pool": field_rules.text(longest=40),
    "quantised": field_rules.one_of("none", "int8-token"),
    "source": field_rules.one_of("extracted", "imported"),
    "origin": field_rules.text(longest=200, empty=True),
}
_LEFT_OUT: Final[Mapping[str, object]] = {
    "pool": "none",
    "quantised": "none",
    "source": "extracted",
    "origin": "",
}
"""Fields that came later, with the value that leaves them out of the JSON: digests stay as they were."""

_CAN_BE_UNKNOWN: Final = (
    "encoder", "weights_sha256", "quick_gelu", "token_space", "preprocess", "precision",
)  # fmt: skip


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
    quick_gelu: bool | Literal["unknown"]
    """Whether the towers use QuickGELU in place of GELU."""
    token_space: Literal["joint", "trunk", "unknown"]
    """``joint``: final norm and projection on every token; ``trunk``: the tower's raw width."""
    dim: int
    """Width D of a feature."""
    patches: int
    """Number P of patch tokens of a frame; 0 in an imported store of one vector a frame."""
    preprocess: Preprocess | Literal["unknown"]
    """How a frame becomes the encoder's input."""
    frames: int
    """Number N of frames of a clip."""
    precision: Literal["fp32", "bf16", "fp16", "unknown"]
    """Arithmetic that the encoder ran in."""
    frame_policy: str = FRAME_POLICY
    """Which frames of a clip are taken, with the version of that rule."""
    dtype: Literal["float16"] = "float16"
    """Number type of the features that a reader gets."""
    pool: str = "none"
    """How patch grids were averaged, such as ``7x7-to-4x4``; ``patches`` counts what is left."""
    quantised: Literal["none", "int8-token"] = "none"
    """``int8-token``: patches are kept as int8 with a scale per token."""
    source: Literal["extracted", "imported"] = "extracted"
    """``imported``: made by another program; only then may fields be ``unknown``."""
    origin: str = ""
    """Of an import, the importer's words for where the features are from: with other words, they are
    other features, since what is unknown cannot tell them apart."""

    def __post_init__(self) -> None:
        problems = check_fields(_field_values(self), _IDENTITY_RULES)
        preprocess: object = self.preprocess
        if not isinstance(preprocess, Preprocess) and preprocess != UNKNOWN:
            problems.append(Problem("preprocess", "is not a Preprocess"))
        if problems := problems or self._contradictions():
            raise SchemaError("feature identity", problems)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of the fields that nobody told; only an imported store has any."""
        fields = [name for name in _CAN_BE_UNKNOWN if getattr(self, name) == UNKNOWN]
        # Its version follows the word: frames were chosen by a known rule from unknown ones.
        policy = self.frame_policy == UNKNOWN or self.frame_policy.startswith(f"{UNKNOWN}-")
        return (*fields, "frame_policy") if policy else tuple(fields)

    @property
    def reader_features(self) -> tuple[str, ...]:
        """What a reader of such a store must know beyond the first version of the format."""
        return (
            *(("imported",) if self.source == "imported" else ()),
            *(("int8-token",) if self.quantised != "none" else ()),
            *(("pooled",) if self.pool != "none" else ()),
        )

    def reduced(
        self, *, pool: tuple[int, int] | None = None, int8: bool = False
    ) -> "FeatureIdentity":
        """Returns the identity of a smaller, lossy variant of these features.

        It is the same whether a store was converted or extracted so, since the numbers are.

        Args:
            pool: rows and columns that each square grid of patches is averaged to.
            int8: whether patches are kept as int8 with a scale per token.

        Raises:
            InputError: the patches make no square grid, or none as large; or these features have
                been reduced in that way already.
        """
        changed = self
        if pool is not None:
            if self.pool != "none" or self.quantised != "none":
                raise InputError(
                    f"These features are a reduced variant already ({self.variant}); pool the "
                    f"features that they were made of, so that the loss is counted once."
                )
            pooling = Pooling.of(self.patches, pool)
            changed = replace(changed, pool=str(pooling), patches=pooling.tokens)
        if int8:
            if self.quantised != "none" or self.patches == 0:
                what = "int8 already" if self.patches else "no patches"
                raise InputError(f"These features have {what}; there is nothing to quantise.")
            changed = replace(changed, quantised="int8-token")
        return changed

    def unreduced(self) -> "FeatureIdentity":
        """Returns the identity of the features that a reduced variant is made of."""
        patches = self.patches if self.pool == "none" else Pooling.parse(self.pool).source_tokens
        return replace(self, pool="none", quantised="none", patches=patches)

    @property
    def variant(self) -> str:
        """How the features were reduced, in a few words; empty where they were not."""
        words = (
            f"pooled {self.pool}" if self.pool != "none" else "",
            "int8" if self.quantised != "none" else "",
        )
        return ", ".join(filter(None, words))

    def to_json(self) -> dict[str, object]:
        """Returns the identity as plain JSON values, sharing no state with it.

        Fields that came with later versions are left out where they have their first value, so that
        no digest changes.
        """
        values = self._plain()
        return {
            name: value
            for name, value in values.items()
            if name not in _LEFT_OUT or value != _LEFT_OUT[name]
        }

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
        problems = check_fields({**_LEFT_OUT, **document}, _IDENTITY_RULES)
        # One spelling per identity, or equal identities would have different digests.
        problems.extend(
            Problem(name, f"is {value!r}, which is left out")
            for name, value in _LEFT_OUT.items()
            if name in document and document[name] == value
        )
        preprocess = document.get("preprocess")
        if isinstance(preprocess, Mapping):
            problems.extend(check_fields(preprocess, _PREPROCESS_RULES, "preprocess"))
        elif "preprocess" in document and preprocess != UNKNOWN:
            problems.append(Problem("preprocess", f"is {type(preprocess).__name__}, not an object"))
        if problems:
            raise SchemaError("feature identity", problems)
        values = {**document, "preprocess": _parse_preprocess(preprocess)}
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
        here, there = _flat(self._plain()), _flat(other._plain())
        return [
            f"{path}: {here.get(path, UNKNOWN)!r} here, {there.get(path, UNKNOWN)!r} there"
            for path in here | there
            if here.get(path, UNKNOWN) != there.get(path, UNKNOWN)
        ]

    def _plain(self) -> dict[str, object]:
        values = _field_values(self)
        if isinstance(self.preprocess, Preprocess):
            preprocess = _field_values(self.preprocess)
            preprocess["mean"] = list(self.preprocess.mean)
            preprocess["std"] = list(self.preprocess.std)
            values["preprocess"] = preprocess
        return values

    def _contradictions(self) -> list[Problem]:
        problems: list[Problem] = []
        if self.source == "extracted":
            why = "which only imported features may be"
            problems.extend(Problem(name, f"is unknown, {why}") for name in self.unknown)
            if self.patches == 0:
                problems.append(Problem("patches", f"is 0, {why}"))
        if (self.source == "imported") != bool(self.origin):
            what = "is missing" if not self.origin else "is given"
            problems.append(Problem("origin", f"{what} for {self.source} features"))
        if self.quantised != "none" and self.patches == 0:
            problems.append(Problem("quantised", "is given without patches"))
        if self.pool != "none":
            try:
                pooling = Pooling.parse(self.pool)
            except InputError as error:
                problems.append(Problem("pool", f"is {self.pool!r}: {error}"))
            else:
                if pooling.tokens != self.patches:
                    what = f"leaves {pooling.tokens} patches, not {self.patches}"
                    problems.append(Problem("pool", what))
        return problems


def _parse_preprocess(document: object) -> Preprocess | str:
    if not isinstance(document, Mapping):
        return UNKNOWN
    inner = cast("dict[str, object]", dict(document))
    inner["mean"] = tuple(cast("list[float]", inner["mean"]))
    inner["std"] = tuple(cast("list[float]", inner["std"]))
    return Preprocess(**inner)  # type: ignore[arg-type]


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
