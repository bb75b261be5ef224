"""Bounds on what one clip may cost, so that no file can stall or exhaust a machine."""

from dataclasses import dataclass

from cache_schema import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeLimits:
    """What decoding one clip may use at most.

    Raises:
        InputError: a limit is not positive.
    """

    pixels: int = 40_000_000
    """Pixels of a frame; 8K UHD has 33 million."""
    aspect: float = 100.0
    """Longer side of a frame over its shorter one."""
    memory_bytes: int = 4 << 30
    """Address space of a decode process on top of what it holds when idle."""
    seconds: float = 60.0
    """Wall-clock time allowed for every file."""
    seconds_per_megabyte: float = 2.0
    """Wall-clock time added per million bytes of the file."""
    least_share: float = 0.05
    """Share of the declared frames that must decode; below it a clip fails as truncated."""

    def __post_init__(self) -> None:
        for name in ("pixels", "aspect", "memory_bytes", "seconds", "seconds_per_megabyte"):
            if getattr(self, name) <= 0:
                raise InputError(f"decode limit {name} is {getattr(self, name)}; it must be > 0")
        if not 0 <= self.least_share <= 1:
            raise InputError(f"decode limit least_share is {self.least_share}, outside 0 to 1")

    def deadline(self, size: int) -> float:
        """Returns the seconds that decoding a file of ``size`` bytes may take."""
        return self.seconds + self.seconds_per_megabyte * size / 1e6
