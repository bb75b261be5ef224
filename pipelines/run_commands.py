"""The commands `videodistill runs ...`: which runs there are, and how they differ."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.data_commands import DataRoot, Home, Json

if TYPE_CHECKING:
    from rich.table import Table

    from pipelines.run_comparison import Comparison
    from pipelines.run_record import RunRecord
    from pipelines.scores.paired_difference import PairedDifference

runs_app = typer.Typer(
    help="Runs, finished or not: how far they are, how well they answer, in what they differ.",
    no_args_is_help=True,
)


@runs_app.command("ls")
def runs_ls(
    folder: Annotated[
        Path,
        typer.Argument(help="Where to look, at any depth; by default runs/.", show_default=False),
    ] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List runs: state, steps, accuracies, seed, features.

    A run is complete, interrupted (it has steps left to do, or is at work now), diverged (its loss was no
    number) or damaged. Test accuracy is of the predictions that belong to the best checkpoint. The store is
    told by its identity and manifest version; seconds are those of the steps that are kept. Exit code 1 if a
    run is diverged or damaged.
    """
    from rich.console import Console

    from pipelines.run_record import find_runs

    runs = find_runs(folder)
    faulty = [run for run in runs if run.problem]
    if as_json:
        typer.echo(json.dumps([run.to_dict() for run in runs], indent=2))
    elif not runs:
        typer.echo(f"There are no runs in {folder}.")
    else:
        Console().print(_listed(runs))
        for run in faulty:
            typer.echo(f"{run.name}: {run.problem}")
    raise typer.Exit(1 if faulty else 0)


@runs_app.command("compare")
def runs_compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Two or more run folders; the first is what the others are compared with."
        ),
    ],
    home: Home = Path(),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Put runs side by side: the options that differ, and accuracy overall and per question type.

    A difference is a further run's accuracy minus the first one's, over the questions that both answered,
    with a paired bootstrap 95 % interval (10,000 resamples of the questions). An interval that holds 0
    shows no difference. Questions of one video are alike, so intervals are rather too narrow.
    """
    from rich.console import Console

    from pipelines.run_comparison import compare_folders

    found = compare_folders(runs, home, data_root)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
        return
    console = Console()
    console.print(_differences(found))
    console.print(_accuracies(found))
    for note in found.notes:
        typer.echo(note)


def _listed(runs: "Sequence[RunRecord]") -> "Table":
    table = _table()
    for name in (
        "run",
        "state",
        "steps",
        "val %",
        "test %",
        "seed",
        "store",
        "manifest",
        "seconds",
    ):
        left = name in {"run", "state", "store"}
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    for run in runs:
        table.add_row(
            _text(run.name),
            run.state,
            f"{run.step}/{run.steps}",
            _percent(run.best_accuracy),
            _percent(run.test_accuracy),
            _text(run.seed),
            "-" if run.store is None else _text(f"{run.store} v{run.store_version}"),
            f"{run.seconds:.0f}",
        )
    return table


def _differences(found: "Comparison") -> "Table":
    """A row per option or fact that differs."""
    table = _table()
    table.add_column("")
    for run in found.runs:
        table.add_column(_text(run.name))
    for name, values in [*found.options.items(), *found.facts()]:
        table.add_row(name, *map(_text, values))
    return table


def _accuracies(found: "Comparison") -> "Table":
    """A row per group of questions; after each further run its difference from the first."""
    first, *others = found.runs
    table = _table()
    table.add_column("test accuracy, %")
    for title in ("n", _text(first.name)):
        table.add_column(title, justify="right")
    for run in others:
        table.add_column(_text(run.name), justify="right")
        table.add_column("difference [95 %]", justify="right", no_wrap=True)
    for row in found.rows:
        cells = [_percent(row.accuracy[0])]
        for accuracy, difference in zip(row.accuracy[1:], row.difference, strict=True):
            cells += [_percent(accuracy), _interval(difference)]
        table.add_row(row.key, f"{row.questions:,}", *cells)
    return table


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, pad_edge=False)


def _text(value: object) -> str:
    """As it is: names and options may hold square brackets."""
    from rich.markup import escape

    if value is None:
        return "-"
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _interval(difference: "PairedDifference | None") -> str:
    if difference is None:
        return "-"
    value, low, high = (100 * x for x in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} \\[{low:+.1f}, {high:+.1f}]"
