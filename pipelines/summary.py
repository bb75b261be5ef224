"""The numbers of an evaluated data set: `summary.json`, and the same as a table for a terminal."""

import math
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from cache_schema import FeatureIdentity, Question
from pipelines.scores.reruns import rerun_note
from train.metrics import accuracy, mean_frame_hit
from train.predictions import Prediction

Spans = Sequence[tuple[float, float]]
Summary = dict[str, Any]

MAJORITY = "majority"
"""The most frequent training answer of the question's type."""
MAJORITY_OF_ALL = "majority_all"
"""The most frequent training answer of all types."""
REPORTED_VERSIONS = ("torch", "open_clip_torch", "decord2", "av", "zarr", "numpy")
_HEADERS = {
    "videodistill": "Video\nDistill",
    "language_only": "lang.\nonly",
    MAJORITY: "major-\nity",
    "uniform": "uni-\nform",
}
"""Broken so that six runs fit a terminal of 80 columns."""
AT_INIT = "at_init"
"""The main run before its first step: what the sampler's start alone is worth."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The test questions of a data set and what every run answered."""

    questions: Sequence[Question]
    evidence: Mapping[str, Spans]
    answers: Mapping[str, Sequence[Prediction]]
    """Run name -> predictions."""
    at_init: Sequence[Prediction] | None
    """Predictions of the untrained main run, for its frames only; None where there is no sampler."""


def tags_of(question: Question, kind: str) -> list[str]:
    """The values of a question's tags of a kind; AGQA's questions may have several types."""
    prefix = f"{kind}:"
    return [tag.removeprefix(prefix) for tag in question.tags if tag.startswith(prefix)]


def tag_of(question: Question, kind: str) -> str | None:
    """The first of `tags_of`: `tag_of(q, "type")` is `color`."""
    return next(iter(tags_of(question, kind)), None)


def summarise(evaluated: Evaluated) -> Summary:
    """Accuracy and frame hit on the core types, on the hard ones, and per type.

    A data set whose questions have no level counts as core throughout; a question counts in each of
    its types. Frame hit is the mean share of a question's selected frames whose presentation time
    lies in its evidence; questions without evidence (an absence) do not count, and methods that
    select no frames have none.

    Returns:
        The tree under `accuracy`, `frame_hit`, `hard`, `per_type` and `questions`.
    """
    by_level: dict[str, list[Question]] = {"core": [], "hard": []}
    by_type: dict[str, list[Question]] = {}
    for question in evaluated.questions:
        by_level[tag_of(question, "level") or "core"].append(question)
        for name in tags_of(question, "type") or ["all"]:
            by_type.setdefault(name, []).append(question)
    core, hard = (_scores(evaluated, by_level[level]) for level in ("core", "hard"))
    return {
        **core,
        "hard": hard,
        "per_type": {
            name: {
                "level": tag_of(questions[0], "level") or "core",
                "questions": len(questions),
                **_scores(evaluated, questions),
            }
            for name, questions in by_type.items()
        },
        "questions": {level: len(questions) for level, questions in by_level.items()},
    }


def _scores(evaluated: Evaluated, questions: Iterable[Question]) -> Summary:
    wanted = {question.question_id for question in questions}
    chosen = {
        run: [p for p in predictions if p.question_id in wanted]
        for run, predictions in evaluated.answers.items()
    }
    looked = {run: found for run, found in chosen.items() if any(p.frame_time for p in found)}
    if evaluated.at_init is not None:
        looked[AT_INIT] = [p for p in evaluated.at_init if p.question_id in wanted]
    return {
        "accuracy": {run: _rounded(accuracy(found)) for run, found in chosen.items()},
        "frame_hit": {
            run: _rounded(mean_frame_hit(found, evaluated.evidence))
            for run, found in looked.items()
        },
    }


def _rounded(value: float) -> float | None:
    """JSON has no NaN: a share of nothing is null."""
    return None if math.isnan(value) else round(value, 4)


def provenance(identity: FeatureIdentity, seed: int, command: str) -> Summary:
    """What made the numbers: features, seed, date, machine, versions, command."""
    return {
        "identity": {"name": identity.name, "digest": identity.digest},
        "seed": seed,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in REPORTED_VERSIONS},
        "command": command,
    }


def _hardware() -> str:
    """Processor and cores, without the machine's name."""
    import os

    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(errors="replace").splitlines()
        model = next(
            (x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), model
        )
    return f"{model}, {os.cpu_count()} cores"


def summary_table(summary: Summary) -> Table:
    """Accuracies in percent, a row per question type; or of a retrieval its numbers; a column per run."""
    table = _retrieved(summary) if "retrieval" in summary else _answered(summary)
    table.caption, table.caption_justify = "\n".join(_caveats(summary)) or None, "left"
    return table


def _retrieved(summary: Summary) -> Table:
    found = summary["retrieval"]
    title = (
        f"{summary['split'].capitalize()} retrieval on {summary['dataset']}, seed {summary['seed']}"
    )
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    gallery = f"{found['queries']:,} captions, {found['clips']:,} clips"
    table.add_column(gallery, no_wrap=True, min_width=len(title))
    for run in found["runs"]:
        table.add_column(_HEADERS.get(run, run.replace("_", "\n")), justify="right", no_wrap=True)
    for depth in ("R@1", "R@5", "R@10"):
        table.add_row(f"{depth} (%)", *(_percent(run[depth]) for run in found["runs"].values()))
    for key, name in (("MdR", "median rank"), ("MnR", "mean rank")):
        table.add_row(name, *(f"{run[key]:.1f}" for run in found["runs"].values()))
    return table


def _answered(summary: Summary) -> Table:
    # A terminal of 80 columns has no room for a second majority; the report page has.
    runs = [run for run in summary["accuracy"] if run != MAJORITY_OF_ALL]
    split = summary["split"].capitalize()
    title = f"{split} accuracy on {summary['dataset']}, seed {summary['seed']} (%)"
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("questions", no_wrap=True)
    table.add_column("n", justify="right", min_width=4)
    for run in runs:
        header = _HEADERS.get(run, run.replace("_", "\n"))
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("hit", justify="right", no_wrap=True)
    rows = [("core", summary["questions"]["core"], summary)]
    if summary["questions"]["hard"]:
        rows.append(("hard", summary["questions"]["hard"], summary["hard"]))
    rows += [(f" {n}", t["questions"], t) for n, t in summary["per_type"].items()]
    for name, count, scores in rows:
        cells = [_percent(scores["accuracy"].get(run)) for run in runs]
        hit = _percent(scores["frame_hit"].get(runs[0]))
        table.add_row(name, str(count), *cells, hit, style="bold" if name == "core" else None)
    return table


def _caveats(summary: Summary) -> Iterator[str]:
    """What a reader of the numbers has to know: what they are of, and what was not or could not be asked."""
    if reruns := summary.get("clip_cache_reruns"):
        yield rerun_note(reruns)
    if shortlist := summary.get("retrieval", {}).get("shortlist"):
        yield (
            f"The model looked at {shortlist:,} clips for each caption; the others stand behind them by the "
            "cosine of the caption with their mean frame"
        )
    for split, found in summary.get("coverage", {}).items():
        if left_out := found["questions"] - found["covered_questions"]:
            yield (
                f"{split}: {left_out:,} of {found['questions']:,} questions are left out: their clips have "
                "no features"
            )
    runs_by_share: dict[float, list[str]] = {}
    for run, share in summary.get("unknown_answers", {}).items():
        runs_by_share.setdefault(share, []).append(run)
    for share, runs in runs_by_share.items():
        if share:
            yield (
                f"{share:.1%} of the test answers are none of the classes of {', '.join(runs)}: they count "
                "as wrong"
            )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
