"""What a run's folder tells of it: how far it came, on what features, and how well it answers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pyarrow.compute as pc

from cache_schema.errors import InputError, VideoDistillError
from cache_schema.tables.question_table import Split
from pipelines.experiment import predictions_file
from train.checkpoint import Checkpoint, peek_checkpoint
from train.curves import read_curves
from train.loop import BEST, DIVERGED, INITIAL
from train.predictions import read_judged
from train.run_state import LAST, PREVIOUS

State = Literal["complete", "interrupted", "diverged", "damaged"]
CONFIG: Final = "config.json"
_REPORTED: Final[tuple[Split, ...]] = ("test", "val")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """One run."""

    name: str
    """Its path below the folder that was searched, or below what all compared runs share."""
    folder: Path
    state: State
    """`interrupted` is any run that has steps left to do, one that is at work now included."""
    config: Mapping[str, Any]
    """Its options as they were written."""
    step: int = 0
    """Steps that are kept; an interrupted run goes on from here."""
    steps: int = 0
    """Steps that it is to do."""
    seed: int | None = None
    best_accuracy: float | None = None
    """Best validation accuracy; None before the first validation."""
    test_accuracy: float | None = None
    """Share of right answers on the reported split; None where it was not evaluated since its training."""
    test_questions: int = 0
    store: str | None = None
    """Name of the identity of the features that it was trained on."""
    store_version: int | None = None
    """The store's manifest version."""
    seconds: float = 0.0
    """Spent in the steps that are kept, validation left out."""
    problem: str = ""
    """What is wrong with a damaged or diverged run."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def find_runs(folder: Path) -> list[RunRecord]:
    """All runs at or below a folder, by name.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; runs lie in runs/<data set>/<run>.")
    found = sorted(path.parent for path in folder.rglob(CONFIG))
    names = [str(run.relative_to(folder)) if run != folder else folder.name for run in found]
    return [read_run(run, name=name) for run, name in zip(found, names, strict=True)]


def read_run(folder: Path, *, name: str | None = None) -> RunRecord:
    """What one run's folder tells; nothing but headers, curves and predictions is read.

    Raises:
        InputError: the folder holds no run.
    """
    name = name or str(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} is no run: there is no {CONFIG} in it.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        left = _left(folder)
        curves = list(_train_lines(folder, None if left is None else left.progress.step))
        answers = answers_of(folder)
        judged = None if answers is None else read_judged(answers)
    except (VideoDistillError, ValueError, KeyError, TypeError) as error:
        return RunRecord(
            name=name, folder=folder, state="damaged", config={}, problem=str(error) or repr(error)
        )
    if left is None:
        state, problem = _state_of(folder, 0, finished=False)
        return RunRecord(
            name=name, folder=folder, state=state, config=config, problem=problem,
            steps=config.get("steps", 0), seed=config.get("seed"),
        )  # fmt: skip
    progress = left.progress
    state, problem = _state_of(folder, progress.step, finished=progress.finished(left.config))
    return RunRecord(
        name=name,
        folder=folder,
        state=state,
        config=config,
        step=progress.step,
        steps=left.config.steps,
        seed=left.config.seed,
        best_accuracy=progress.best_accuracy if progress.best_step else None,
        test_accuracy=None if judged is None else pc.mean(judged.column("correct")).as_py(),
        test_questions=0 if judged is None else len(judged),
        store=left.identity.name,
        store_version=left.store_version,
        seconds=sum(line["step_s"] for line in curves),
        problem=problem,
    )


def _left(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, without its tensors; None before the first one."""
    there = [folder / name for name in (LAST, PREVIOUS, INITIAL) if (folder / name).is_file()]
    damage: VideoDistillError | None = None
    for path in there:
        try:
            return peek_checkpoint(path)
        except VideoDistillError as error:
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def _state_of(folder: Path, step: int, *, finished: bool) -> tuple[State, str]:
    """The state, and in words what is wrong."""
    if finished:
        return "complete", ""
    path = folder / DIVERGED
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        # A run that went on and came past that step, with another machine say, is a run like any.
        if found["step"] > step:
            return "diverged", f"loss {found['loss']} at step {found['step']}; see {path}"
    return "interrupted", ""


def _train_lines(folder: Path, step: int | None) -> Iterator[dict[str, Any]]:
    for line in read_curves(folder):
        if line["kind"] == "train" and step is not None and line["step"] <= step:
            yield line


def answers_of(folder: Path) -> Path | None:
    """The predictions of a run's best checkpoint: on `test`, or on `val` where that is reported.

    None where there are none, or older ones than the checkpoint.
    """
    best = folder / BEST
    for split in _REPORTED:
        path = folder / predictions_file(split)
        if path.is_file():
            stale = best.is_file() and path.stat().st_mtime < best.stat().st_mtime
            return None if stale else path
    return None
