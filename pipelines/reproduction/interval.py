"""The mean of a figure over seeds, and how far it may be off."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_T_975: Final = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
)
"""97.5 % quantiles of Student's t with 1 to 12 degrees of freedom."""
_NORMAL_975: Final = 1.96


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean and its 95 % interval by Student's t; of one value the interval is unknown."""

    mean: float
    half_width: float | None
    values: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float]) -> "Interval":
        """The interval of some seeds' values, at least one."""
        mean, freedom = statistics.fmean(values), len(values) - 1
        if not freedom:
            return cls(mean=mean, half_width=None, values=tuple(values))
        t = _T_975[freedom - 1] if freedom <= len(_T_975) else _NORMAL_975
        half = t * statistics.stdev(values) / len(values) ** 0.5
        return cls(mean=mean, half_width=half, values=tuple(values))
