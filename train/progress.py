"""What a run says after every step, and a terminal bar that shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_STEPS_PER_LINE: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What a progress display needs to know after a step."""

    step: int
    """Steps done."""
    steps: int
    """Steps of the run."""
    loss: float
    """Loss of the last step."""
    accuracy: float
    """Accuracy on the last batch."""
    best_accuracy: float
    """Best validation accuracy so far; -1 before the first validation."""
    eta_s: float
    """Seconds that the rest will take, at the mean speed since the start or resume."""
    data_wait_share: float
    """Share of the time since then that was spent waiting for data."""


ProgressCallback = Callable[[StepReport], None]


@contextmanager
def progress_bar(title: str, console: Console | None = None) -> Iterator[ProgressCallback]:
    """Show a run's steps, loss, best validation accuracy, data wait and time left.

    On a terminal a live bar; elsewhere, as in a cluster's log, one line every few steps.
    """
    console = console or Console()
    if not console.is_terminal:
        yield partial(_print_line, title, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, numbers="")

        def show(report: StepReport) -> None:
            progress.update(
                task, total=report.steps, completed=report.step, numbers=describe(report)
            )

        yield show


def _print_line(title: str, console: Console, report: StepReport) -> None:
    if report.step % _STEPS_PER_LINE == 0 or report.step == report.steps:
        line = f"{title}: step {report.step}/{report.steps}  {describe(report)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def describe(report: StepReport) -> str:
    """One line of numbers: loss, accuracies, data wait and time left."""
    best = f"{report.best_accuracy:.3f}" if report.best_accuracy >= 0 else "-"
    minutes, seconds = divmod(round(report.eta_s), 60)
    return (
        f"loss {report.loss:.3f}  acc {report.accuracy:.2f}  best val {best}  "
        f"data wait {report.data_wait_share:.1%}  left {minutes}:{seconds:02d}"
    )
