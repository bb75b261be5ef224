"""Reads a run's `summary.json` without trusting it: what is missing or odd is None, never an error."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipelines.scores.reruns import rerun_note

Summary = Mapping[str, object]

METHODS = {
    "videodistill": "VideoDistill",
    "uniform": "uniform frames",
    "language_only": "language only",
    "majority": "majority answer",
    "majority_all": "majority answer of all types",
    "mean_frame": "mean-frame probe",
    "single_frame": "single-frame probe",
}
"""The ways of answering that the page has names, colours and a column for."""

SAMPLERS = {
    "videodistill": "VideoDistill",
    "at_init": "at initialisation",
    "uniform": "uniform frames",
}
"""Every way of selecting frames."""

_LEVELS = ("core", "hard")


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Accuracy of each method and frame hit of each sampler over one set of questions."""

    questions: float | None
    accuracy: Mapping[str, float | None]
    """A key of `methods` -> share of right answers."""
    frame_hit: Mapping[str, float | None]
    """A key of `SAMPLERS` -> share of the selected frames that lie in a ground-truth span."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeScores:
    """The scores of one question type."""

    name: str
    scores: Scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Level:
    """Question types of one level, and the scores over all of them."""

    name: str
    types: tuple[TypeScores, ...]
    total: Scores


def found(summary: Summary, *keys: str) -> object:
    """The value at a path of keys; None where any of them is missing."""
    value: object = summary
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def number(summary: Summary, *keys: str) -> float | None:
    """The finite number at a path of keys, if there is one."""
    value = found(summary, *keys)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # JSON knows no limit to an integer
        return None


def text(summary: Summary, *keys: str) -> str | None:
    """The string, or the number as a string, at a path of keys."""
    value = found(summary, *keys)
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def table(summary: Summary, *keys: str) -> Summary:
    """The mapping at a path of keys; empty where there is none."""
    value = found(summary, *keys)
    return value if isinstance(value, Mapping) else {}


def methods(summary: Summary) -> dict[str, str]:
    """How the page calls every run of a summary: `METHODS`, and any other by its own name."""
    return METHODS | {n: n for n in table(summary, "accuracy") if n not in METHODS}


def reruns(summary: Summary) -> str | None:
    """The note on runs of other papers' models; None where there are none."""
    named = found(summary, "clip_cache_reruns")
    runs = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    return rerun_note(runs) if runs else None


def levels(summary: Summary) -> list[Level]:
    """The question types by level: core, hard, then whatever else the summary names."""
    by_level: dict[str, list[TypeScores]] = {name: [] for name in _LEVELS}
    runs = methods(summary)
    for name in table(summary, "per_type"):
        entry = table(summary, "per_type", name)
        level = text(entry, "level") or "other"
        by_level.setdefault(level, []).append(TypeScores(name=name, scores=_scores(entry, runs)))
    return [
        Level(name=level, types=tuple(types), total=_total(summary, level, runs))
        for level, types in by_level.items()
        if types
    ]


def total_seconds(summary: Summary) -> float | None:
    """The seconds of all stages together; None if no stage was timed."""
    stages = [number(summary, "seconds", stage) for stage in table(summary, "seconds")]
    known = [seconds for seconds in stages if seconds is not None]
    return sum(known) if known else None


def _total(summary: Summary, level: str, runs: Iterable[str]) -> Scores:
    # The core figures are the summary's own top level; other levels have a table of their own.
    scores = _scores(summary if level == "core" else table(summary, level), runs)
    return Scores(
        questions=number(summary, "questions", level),
        accuracy=scores.accuracy,
        frame_hit=scores.frame_hit,
    )


def _scores(entry: Summary, runs: Iterable[str]) -> Scores:
    return Scores(
        questions=number(entry, "questions"),
        accuracy={run: number(entry, "accuracy", run) for run in runs},
        frame_hit={sampler: number(entry, "frame_hit", sampler) for sampler in SAMPLERS},
    )
