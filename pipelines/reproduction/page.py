"""The result page: every arm's figures, every claim's interval, and whether it holds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.presets import dotted
from pipelines.reproduction.claims import Claim, Convergence, Study
from pipelines.reproduction.figures import HIT, Figures
from pipelines.reproduction.interval import Interval

_COLUMNS = {
    "core": 100,
    "hard": 100,
    "hit": 1,
    "accuracy": 100,
    "recall_at_1": 100,
    "recall_at_10": 100,
}
"""Figure -> the factor it is shown with: shares as percent, frame hits as they are."""


def difference(claim: Claim, found: Mapping[str, Sequence[Figures]]) -> Interval | None:
    """The claim's sum, seed by seed; None where a seed or a figure is missing."""
    seeds = min((len(found.get(arm, ())) for arm in claim.arms), default=0)
    values = []
    for seed in range(seeds):
        try:
            plus = sum(found[arm][seed][claim.figure] for arm in claim.plus)
            minus = sum(found[arm][seed][claim.figure] for arm in claim.minus)
        except KeyError:
            return None
        values.append(plus - minus)
    return Interval.over(values) if values else None


def page(
    study: Study,
    claims: Sequence[Claim],
    found: Mapping[str, Sequence[Figures]],
    about: Mapping[str, Any],
) -> str:
    """Markdown for people."""
    lines = ["# The paper's claims on the demo data", ""]
    verdicts = [(claim, difference(claim, found)) for claim in claims]
    held = sum(bool(d and claim.holds(d)) for claim, d in verdicts)
    measured = sum(d is not None for _, d in verdicts)
    lines += [
        (
            f"{held} of {measured} claims hold: the 95 % interval (Student's t over training seeds, paired by "
            "seed) of the difference lies above zero (or, where no difference is claimed, on both sides of "
            "it). Percent are of test questions, best checkpoint by validation; the videos are the same for "
            f"all seeds. Every arm is its data set's main run with {_options(dotted(study.shared))} and with "
            "what the last table says of it."
        ),
        "",
    ]
    for group in dict.fromkeys(claim.group for claim in claims):
        lines += [f"## {group}", "", "| claim | source | figure | difference | holds |"]
        lines += ["|---|---|---|--:|---|"]
        lines += [_claim_row(claim, d) for claim, d in verdicts if claim.group == group]
        lines.append("")
    lines += _convergence(study.convergence, found)
    lines += ["## Arms", "", "Mean over seeds, and half the width of the 95 % interval.", ""]
    lines += ["| arm | data set | differs in | seeds | " + " | ".join(_COLUMNS) + " |"]
    lines += ["|---|---|---|--:|" + "--:|" * len(_COLUMNS)]
    for name, seeds in found.items():
        cells = [_cell(seeds, figure, factor) for figure, factor in _COLUMNS.items()]
        arm = study.arms[name]
        about_arm = [name, arm.dataset, _options(study.differs(arm)), str(len(seeds))]
        lines.append(f"| {' | '.join([*about_arm, *cells])} |")
    return "\n".join([*lines, "", "```json", json.dumps(about, indent=2), "```", ""])


def _convergence(rule: Convergence, found: Mapping[str, Sequence[Figures]]) -> list[str]:
    """How many seeds left the plateau, and every seed's figures."""
    if not found.get(rule.baseline):
        return []
    floor = statistics.fmean(figures["core"] for figures in found[rule.baseline]) + rule.least_gain
    lines = [
        "## Seeds that leave the plateau",
        "",
        (
            f"Core accuracy at least {100 * rule.least_gain:.0f} points above {rule.baseline}'s mean, and a "
            f"frame hit of at least {rule.least_hit}."
        ),
        "",
        "| arm | converged | core accuracy / frame hit of each seed |",
        "|---|--:|---|",
    ]
    for arm in rule.arms:
        seeds = found.get(arm, ())
        left = sum(f["core"] >= floor and f[HIT] >= rule.least_hit for f in seeds)
        shown = ", ".join(f"{100 * f['core']:.1f} / {f[HIT]:.2f}" for f in seeds)
        lines.append(f"| {arm} | {left} of {len(seeds)} | {shown} |")
    return [*lines, ""]


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in options.items())


def _claim_row(claim: Claim, d: Interval | None) -> str:
    if d is None:
        return f"| {claim.text} | {claim.source} | {claim.figure} | not run | - |"
    holds = {True: "yes", False: "no", None: "one seed"}[claim.holds(d)]
    shown = _shown(d, _COLUMNS[claim.figure], sign="+")
    return f"| {claim.text} | {claim.source} | {claim.figure} | {shown} | {holds} |"


def _cell(seeds: Sequence[Figures], figure: str, factor: int) -> str:
    values = [figures[figure] for figures in seeds if figure in figures]
    return _shown(Interval.over(values), factor) if values else "-"


def _shown(interval: Interval, factor: int, sign: str = "") -> str:
    digits = 1 if factor == 100 else 3
    mean = f"{factor * interval.mean:{sign}.{digits}f}"
    if interval.half_width is None:
        return mean
    return f"{mean} ± {factor * interval.half_width:.{digits}f}"
