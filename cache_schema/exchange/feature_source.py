"""Features that another program left behind, in this project's shapes, whatever file they are in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cache_schema.errors import VideoDistillError
from cache_schema.identity import FeatureIdentity

Float16 = npt.NDArray[np.float16]
Floats = npt.NDArray[np.floating]

MOST_CLIP_BYTES: Final = 8 << 30
"""A header may promise more than any machine holds; a clip beyond this is not read."""


class UnusableClip(VideoDistillError):  # noqa: N818 -- says what is the case
    """The features of one clip cannot be taken over; the clip becomes a failed row.

    Attributes:
        reason: short code, such as ``nonfinite``.
        detail: one line about what was found.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class SourceSizes(NamedTuple):
    """The sizes that all clips of a source share."""

    frames: int | None
    """Frames of a clip; None where clips have different numbers of them."""
    patches: int
    """Patch tokens of a frame; 0 where a frame has one vector."""
    dim: int
    """Width of a feature."""

    @classmethod
    def of_shapes(cls, shapes: Sequence[tuple[int, ...]]) -> "SourceSizes":
        """Returns the sizes of the first of some clips, each [T, D] or [T, 1 + P, D]."""
        first = shapes[0]
        frames = {shape[0] for shape in shapes if shape[1:] == first[1:]}
        return cls(
            frames=first[0] if len(frames) == 1 else None,
            patches=first[1] - 1 if len(first) == 3 else 0,
            dim=first[-1],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SourceClip:
    """One clip's features, in the number type that the other program wrote."""

    cls: Floats
    """float [T, D]: the first token, or the only one, of each of its T frames."""
    patch: Floats
    """float [T, P, D]; P is 0 where a frame has one vector."""
    frame_time: npt.NDArray[np.float64] | None = None
    """float64 [T] in seconds; None where the file does not tell."""
    path: str
    """The file, relative to the source's folder."""
    size: int
    """Bytes of it that are this clip's."""
    digest: str = ""
    """BLAKE2b-128 of a file that is all this clip's."""
    flags: tuple[str, ...] = ()
    """Remarks, one line each."""


class FeatureSource(Protocol):
    """A file or folder of features. Not shared between threads."""

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips, in the order of the file."""

    @property
    def refused(self) -> Mapping[str, str]:
        """What is there and cannot be a clip at all, with the reason."""

    @property
    def sizes(self) -> SourceSizes:
        """The sizes of the first clip that can be read.

        Raises:
            InputError: none can.
        """

    @property
    def identity(self) -> FeatureIdentity | None:
        """What the file itself says its features are; None for other programs' files."""

    def read(self, clip_id: str) -> SourceClip:
        """Returns a clip's features.

        Raises:
            UnusableClip: the file is broken, or of another shape than others of its kind.
        """

    def close(self) -> None:
        """Closes the file."""


def to_half(features: Floats) -> Float16:
    """Rounds features to float16.

    Raises:
        UnusableClip: they hold NaN or infinity, or numbers beyond float16.
    """
    if not np.isfinite(features).all():
        count = int((~np.isfinite(features)).sum())
        raise UnusableClip("nonfinite", f"{count} of {features.size} values are NaN or infinite")
    with np.errstate(over="ignore"):
        half: Float16 = features.astype(np.float16)
    if np.isinf(half).any():
        largest = float(np.abs(features).max())
        raise UnusableClip("overflow", f"values reach {largest:.6g}; float16 ends at 65504")
    return half


def midpoints(had: int, wanted: int) -> npt.NDArray[np.intp]:
    """Returns which N of T frames stand at the middles of N equal parts: floor((2n + 1) T / 2N).

    Frames repeat where T is less than N.
    """
    return ((2 * np.arange(wanted) + 1) * had // (2 * wanted)).astype(np.intp)


def require_floats(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> None:
    """Refuses what a header promises: other things than numbers, no values, or far too many.

    Raises:
        UnusableClip: as told.
    """
    if dtype.kind != "f":
        raise UnusableClip("wrong_type", f"holds {dtype}, not floating-point numbers")
    # In Python's integers, which do not overflow as a product of numpy's would.
    count = 1
    for length in shape:
        count *= int(length)
    if count < 1:
        raise UnusableClip("empty", f"has the shape {shape}, without values")
    if count * dtype.itemsize > MOST_CLIP_BYTES:
        raise UnusableClip("too_large", f"has the shape {shape}, more than {MOST_CLIP_BYTES} bytes")
