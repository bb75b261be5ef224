"""Geometry of the page's charts, in percent of the plot; `charts.jinja` turns it into SVG.

Positions in percent, not pixels, let a chart take any width while its text keeps its size.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.report.content import Curve, Strip
from pipelines.report.summary import METHODS, SAMPLERS, Scores
from pipelines.report.wording import clock, percent

BARS = ("videodistill", "uniform", "language_only", "majority")
PROBES = ("mean_frame", "single_frame")
SHARE_TICKS = (0, 25, 50, 75, 100)

_DRAWN_POINTS = 75
"""Longer curves are drawn as the means of this many groups of steps."""
_DRAWABLE = 1e30
"""A loss beyond is as good as infinite, and its sums and differences may be."""
_LABEL_GAP = 8.0
"""Percent of a line chart's height that a line of text needs."""
_LEADERS_UP_TO = 12
"""Frames of a strip that fit beside each other, so that a line can join each to its moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """One value on a scale from 0 to 100 %: a bar's length or a dot's place."""

    key: str
    """A key of `METHODS` or `SAMPLERS`; names the mark's look."""
    name: str
    position: float | None
    """Clamped to the scale; None where there is no value."""
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    position: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve as SVG path data in a plot of 100 x 100, y downwards."""

    key: str
    """A key of `METHODS`, or `other-1` ... `other-3`; names the line's look."""
    name: str
    path: str
    band: str
    """Outline from the lowest to the highest value of each group; empty where nothing was grouped."""
    label_at: float
    """Height of the label beside the last point, moved so that labels do not overlap."""
    last: str
    """The last drawn value as text."""
    left_out: int
    """Points that are not finite numbers, or as good as infinite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """Curves over training steps with their axes."""

    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    group: int
    """Most steps that one drawn point stands for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A selected frame on a time line."""

    position: float
    inside: bool
    label: str
    picture_at: float
    """Middle of its picture in the row below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeLine:
    """A video's length with its ground-truth spans and the selected moments."""

    spans: tuple[tuple[float, float], ...]
    """(left, width) of each."""
    moments: tuple[Moment, ...]
    joined: bool
    """Whether lines join the moments to their pictures."""


def accuracy_marks(scores: Scores, keys: Sequence[str]) -> tuple[Mark, ...]:
    """Bars or probe dots of one question type, in the order of `keys`."""
    return _marks(scores.accuracy, METHODS, keys)


def frame_hit_marks(scores: Scores) -> tuple[Mark, ...]:
    """Dots of one question type: where uniform, untrained and trained selection stand."""
    return _marks(scores.frame_hit, SAMPLERS, ("uniform", "at_init", "videodistill"))


def _marks(
    values: Mapping[str, float | None], names: Mapping[str, str], keys: Sequence[str]
) -> tuple[Mark, ...]:
    return tuple(
        Mark(
            key=key,
            name=names[key],
            position=None if (value := values.get(key)) is None else _clamp(value * 100),
            label=percent(value, 0),
        )
        for key in keys
    )


def spoken(marks: Sequence[Mark]) -> str:
    """The marks as a sentence, for whoever does not see them."""
    return ", ".join(f"{mark.name} {mark.label}" for mark in marks)


def line_chart(
    curves: Sequence[Curve],
    write: Callable[[float], str],
    limits: tuple[float, float] | None = None,
) -> LineChart | None:
    """Lay out curves over steps.

    Args:
        curves: The runs; those without a drawable point keep their place in the legend.
        write: Puts a value of the y axis into words.
        limits: The y axis' ends; from zero, or the lowest value, to the highest if None.

    Returns:
        The chart; None if there is nothing to draw.
    """
    finite = [[(step, y) for step, y in curve.points if abs(y) < _DRAWABLE] for curve in curves]
    steps = [step for points in finite for step, _ in points]
    values = [y for points in finite for _, y in points]
    if not steps:
        return None
    x_span = (min(0, *steps), max(1, *steps))
    x_ticks = ticks(*x_span)
    y_ticks = ticks(*(limits or (min(0.0, *values), max(1e-9, *values))))
    y_span = limits or (y_ticks[0], max(y_ticks[-1], *values))
    groups = [_grouped(points) for points in finite]
    labels = spread(
        [100 - _share(group[-1][1], y_span) if group else 100.0 for group in groups], _LABEL_GAP
    )
    lines = [
        Line(
            key=key,
            name=METHODS.get(key, curve.run),
            path=_path([(_share(x, x_span), 100 - _share(y, y_span)) for x, y, _, _ in group]),
            band=_band(group, x_span, y_span),
            label_at=label_at,
            last=write(group[-1][1]) if group else "no value",
            left_out=len(curve.points) - len(points),
        )
        for curve, key, points, group, label_at in zip(
            curves, _looks(curves), finite, groups, labels, strict=True
        )
    ]
    return LineChart(
        lines=tuple(lines),
        x_ticks=tuple(
            Tick(position=_share(x, x_span), label=f"{x:,.0f}") for x in x_ticks if x % 1 == 0
        ),
        y_ticks=tuple(Tick(position=100 - _share(y, y_span), label=write(y)) for y in y_ticks),
        group=max(_group_size(len(points)) for points in finite),
    )


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from at or below `low` up to `high`: steps of 1, 2 or 5 times a power of ten.

    Args:
        low: The axis' lower end.
        high: Its upper end, greater than `low`.
        most: Upper limit of the number of steps.

    Returns:
        Ascending ticks, the last at or below `high`.
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move labels apart: at least `gap` between any two, none beyond 100, each near its place."""
    moved = list(places)
    order = sorted(range(len(places)), key=lambda i: (places[i], i))
    for before, after in itertools.pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    ceiling = 100.0
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved


def time_line(strip: Strip) -> TimeLine:
    """Lay out a strip's spans and selected moments, in time order."""
    scale = 100 / strip.duration_s
    frames = sorted(strip.frames, key=lambda frame: frame.time_s)
    return TimeLine(
        spans=tuple(
            (_clamp(start * scale), _clamp(end * scale) - _clamp(start * scale))
            for start, end in strip.spans
        ),
        moments=tuple(
            Moment(
                position=_clamp(frame.time_s * scale),
                inside=frame.inside,
                label=clock(frame.time_s),
                picture_at=100 * (i + 0.5) / len(frames),
            )
            for i, frame in enumerate(frames)
        ),
        joined=0 < len(frames) <= _LEADERS_UP_TO,
    )


_Group = list[tuple[float, float, float, float]]
"""(mean step, mean, lowest, highest) of consecutive points."""


def _group_size(points: int) -> int:
    return max(1, math.ceil(points / _DRAWN_POINTS))


def _grouped(points: Sequence[tuple[int, float]]) -> _Group:
    size = _group_size(len(points))
    if size == 1:
        return [(x, y, y, y) for x, y in points]
    groups = []
    for start in range(0, len(points), size):
        xs, ys = zip(*points[start : start + size], strict=True)
        groups.append((sum(xs) / len(xs), sum(ys) / len(ys), min(ys), max(ys)))
    return groups


def _band(group: _Group, x_span: tuple[float, float], y_span: tuple[float, float]) -> str:
    if all(low == high for _, _, low, high in group):
        return ""
    top = [(_share(x, x_span), 100 - _share(high, y_span)) for x, _, _, high in group]
    bottom = [(_share(x, x_span), 100 - _share(low, y_span)) for x, _, low, _ in reversed(group)]
    return _path(top + bottom) + "Z"


def _path(corners: Sequence[tuple[float, float]]) -> str:
    """SVG path data; a lone point becomes a dot, which round line caps make visible."""
    if not corners:
        return ""
    listed = corners if len(corners) > 1 else [*corners, *corners]
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in listed)


def _looks(curves: Sequence[Curve]) -> list[str]:
    """Each run's method, if its name says it, else one of three other looks in turn."""
    looks, others = [], 0
    for curve in curves:
        key = curve.run.lower().replace("-", "_").replace(" ", "_")
        if key not in METHODS:
            key, others = f"other-{others % 3 + 1}", others + 1
        looks.append(key)
    return looks


def _share(value: float, span: tuple[float, float]) -> float:
    low, high = span
    return _clamp(100 * (value - low) / (high - low))


def _clamp(percentage: float) -> float:
    return min(100.0, max(0.0, percentage))
