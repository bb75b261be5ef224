"""How large a data set's feature store gets and how long it takes, before anything is extracted."""

from dataclasses import asdict, dataclass
from typing import Final

DEFAULT_FRAMES: Final = 100
"""N of the paper (§4)."""
_BYTES_OF_A_NUMBER: Final = 2
"""Features are float16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderCost:
    """What one frame costs with an encoder in joint token space."""

    encoder: str
    patches: int
    """P, tokens of a frame beside CLS."""
    dim: int
    """D, numbers of a token."""
    frames_per_s: float
    """Frames that are encoded in a second."""
    where: str
    """On what machine, and whether measured or scaled."""

    def store_bytes(self, clips: int, frames: int = DEFAULT_FRAMES) -> int:
        """Size of the store: clips x frames x (CLS + patches) x dim float16 numbers."""
        return clips * frames * (1 + self.patches) * self.dim * _BYTES_OF_A_NUMBER

    def seconds(self, clips: int, frames: int = DEFAULT_FRAMES) -> float:
        """Time of the encoder alone; decoding runs beside it."""
        return clips * frames / self.frames_per_s


ENCODERS: Final = (
    EncoderCost(
        encoder="ViT-B-32",
        patches=49,
        dim=512,
        frames_per_s=69,
        where="two quiet CPU cores with AVX-512 BF16",
    ),
    EncoderCost(
        encoder="ViT-B-16",
        patches=196,
        dim=512,
        frames_per_s=17,
        where="two CPU cores, bf16, scaled by its arithmetic",
    ),
    EncoderCost(
        encoder="ViT-L-14",
        patches=256,
        dim=768,
        frames_per_s=3.7,
        where="two CPU cores, bf16, scaled by its arithmetic",
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreCost:
    """Size and time of one data set with one encoder."""

    encoder: str
    bytes: int
    seconds: float
    frames_per_s: float
    where: str

    def to_dict(self) -> dict[str, str | int | float]:
        """For JSON."""
        return asdict(self)


def costs(clips: int, frames: int = DEFAULT_FRAMES) -> list[StoreCost]:
    """The store of some clips with every encoder that has a known rate."""
    return [
        StoreCost(
            encoder=e.encoder,
            bytes=e.store_bytes(clips, frames),
            seconds=e.seconds(clips, frames),
            frames_per_s=e.frames_per_s,
            where=e.where,
        )
        for e in ENCODERS
    ]


def describe_costs(clips: int, frames: int = DEFAULT_FRAMES) -> list[str]:
    """One line an encoder."""
    return [
        f"{c.encoder:9} {shown_size(c.bytes):>9}, {_time(c.seconds):>11} at {c.frames_per_s:g} frames/s "
        f"({c.where})"
        for c in costs(clips, frames)
    ]


def shown_size(number: float) -> str:
    """Bytes in the largest unit that leaves a number above one."""
    unit, length = next(
        ((unit, length) for unit, length in (("TB", 1e12), ("GB", 1e9)) if number >= length),
        ("MB", 1e6),
    )
    return (
        f"{number / length:,.3g} {unit}"
        if number < 1000 * length
        else f"{number / length:,.0f} {unit}"
    )


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds"
