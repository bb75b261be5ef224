"""How far the features of a lossy variant are from those they were made of, measured at writing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from cache_schema import field_rules
from cache_schema.errors import SchemaError
from cache_schema.field_rules import Rule, check_fields

_RULES: Final[Mapping[str, Rule]] = {
    "tokens": field_rules.integer(least=1),
    "reference_patches": field_rules.integer(least=1),
    "max_abs": field_rules.number(least=0.0),
    "error_squares": field_rules.number(least=0.0),
    "source_squares": field_rules.number(least=0.0),
    "cosine_sum": field_rules.number(),
    "min_cosine": field_rules.number(least=-1.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredLoss:
    """Differences of patch tokens from the features that they stand for.

    Kept as sums, so that the losses of blocks add up to the loss of a store.
    """

    tokens: int
    """Tokens compared."""
    reference_patches: int
    """Patches of a frame that was compared with: a pooled grid is laid back over the finer one."""
    max_abs: float
    """Largest difference of a value."""
    error_squares: float
    """Sum of all squared differences."""
    source_squares: float
    """Sum of all squared values of the features compared with."""
    cosine_sum: float
    """Sum of the tokens' cosines with what they stand for."""
    min_cosine: float
    """Smallest of those cosines."""

    @classmethod
    def between(
        cls, source: npt.NDArray[np.floating], restored: npt.NDArray[np.float16]
    ) -> "MeasuredLoss":
        """Measures the loss of some clips.

        Args:
            source: float [..., P, D], the features before; P and D above 0.
            restored: float16 [..., P, D], what a reader gets, in the same grid.
        """
        tokens = 0
        max_abs = error_squares = source_squares = cosine_sum = 0.0
        min_cosine = 1.0
        frames = source.reshape(-1, *source.shape[-2:])
        # A frame at a time: a block of clips would not fit into memory in float32 twice more.
        for before, after in zip(frames, restored.reshape(frames.shape), strict=True):
            wide, back = before.astype(np.float32), after.astype(np.float32)
            norms = _dot(wide, wide)
            product = np.sqrt(norms * _dot(back, back))
            # A token of zeros has no direction: it is kept if it comes back as zeros.
            same = (product == 0) & (norms == _dot(back, back))
            cosine = np.where(same, 1.0, _dot(wide, back) / np.where(product == 0, 1.0, product))
            difference = np.abs(wide - back)
            tokens += len(cosine)
            max_abs = max(max_abs, float(difference.max()))
            error_squares += float(_dot(difference, difference).sum())
            source_squares += float(norms.sum())
            cosine = np.clip(cosine, -1.0, 1.0)
            cosine_sum += float(cosine.sum())
            min_cosine = min(min_cosine, float(cosine.min()))
        return cls(
            tokens=tokens,
            reference_patches=frames.shape[1],
            max_abs=max_abs,
            error_squares=error_squares,
            source_squares=source_squares,
            cosine_sum=cosine_sum,
            min_cosine=min_cosine,
        )

    @classmethod
    def total(cls, losses: Iterable["MeasuredLoss"]) -> "MeasuredLoss | None":
        """Returns the loss of several parts taken together, None of none."""
        parts = list(losses)
        return reduce(cls._plus, parts) if parts else None

    @property
    def relative(self) -> float:
        """Root of the mean squared difference, relative to the features' own."""
        return (
            float(np.sqrt(self.error_squares / self.source_squares)) if self.source_squares else 0.0
        )

    @property
    def mean_cosine(self) -> float:
        """Mean cosine of a token with what it stands for."""
        return self.cosine_sum / self.tokens

    def report(self) -> dict[str, object]:
        """Returns the figures that people ask for."""
        return {
            "tokens": self.tokens,
            "reference_patches": self.reference_patches,
            "max_abs": self.max_abs,
            "relative": self.relative,
            "mean_cosine": self.mean_cosine,
            "min_cosine": self.min_cosine,
        }

    def to_json(self) -> dict[str, object]:
        """Returns the sums as plain JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, document: object) -> "MeasuredLoss":
        """Reads what ``to_json`` wrote, and nothing else.

        Raises:
            SchemaError: fields are missing, unknown or out of range.
        """
        if not isinstance(document, Mapping):
            raise SchemaError("measured loss", [("", "is not an object")])
        if problems := check_fields(document, _RULES):
            raise SchemaError("measured loss", problems)
        return cls(**cast("dict[str, float]", dict(document)))  # type: ignore[arg-type]

    def _plus(self, other: "MeasuredLoss") -> "MeasuredLoss":
        return MeasuredLoss(
            tokens=self.tokens + other.tokens,
            reference_patches=max(self.reference_patches, other.reference_patches),
            max_abs=max(self.max_abs, other.max_abs),
            error_squares=self.error_squares + other.error_squares,
            source_squares=self.source_squares + other.source_squares,
            cosine_sum=self.cosine_sum + other.cosine_sum,
            min_cosine=min(self.min_cosine, other.min_cosine),
        )


def _dot(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    sums: npt.NDArray[np.float64] = np.einsum("pd,pd->p", left, right).astype(np.float64)
    return sums
