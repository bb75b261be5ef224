"""The commands `videodistill data ...`: which data sets there are, what they want, what is there."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pipelines.data_check import DataCheck
    from pipelines.datasets.dataset import Dataset

data_app = typer.Typer(
    help="Data sets: which there are, what they want where, and their neutral tables.",
    no_args_is_help=True,
)

DatasetName = Annotated[
    str, typer.Argument(help="Name of the data set; `videodistill data ls` lists them.")
]
Seed = Annotated[int, typer.Option(min=1, help="Seed of the demo's videos.")]
Home = Annotated[
    Path, typer.Option(help="Folder that holds data/, stores/ and runs/.", file_okay=False)
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the annotations and videos, where it is not data/<name>.", file_okay=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")
]


def located_dataset(
    name: str, home: Path, data_root: Path | None, seed: int = 1
) -> "tuple[Dataset, Path]":
    """The data set of a name, and the folder of its files."""
    from pipelines.datasets.registry import find
    from pipelines.workspace import Workspace

    dataset = find(name)
    return dataset, Workspace(home=home, dataset=dataset, seed=seed, data_root=data_root).data


@data_app.command("ls")
def data_ls(as_json: Json = False) -> None:
    """List the data sets."""
    from pipelines.datasets.registry import known

    datasets = known().values()
    if as_json:
        rows = [{"name": d.name, "task": d.task, "about": d.about} for d in datasets]
        typer.echo(json.dumps(rows, indent=2))
        return
    for dataset in datasets:
        typer.echo(f"{dataset.name:20} {dataset.task:16} {dataset.about}")


@data_app.command("info")
def data_info(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Say what a data set is, whose, which files belong where and are there, and what it will cost.

    No annotation file is read. Exit code 1 if one is absent.
    """
    from pipelines.datasets.description import describe, description_record

    found, root = located_dataset(dataset, home, data_root, seed)
    if as_json:
        typer.echo(json.dumps(description_record(found, root), indent=2))
    else:
        typer.echo(describe(found, root))
    raise typer.Exit(1 if found.missing(root) else 0)


@data_app.command("check")
def data_check(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Read all annotation files and look for every video.

    Counts beside the published ones, rows that break a rule, clips without a video, overlap between
    splits, answers that training does not have. Exit code 1 if anything is wrong.
    """
    from pipelines.data_check import check

    found, root = located_dataset(dataset, home, data_root, seed)
    checked = check(found, root)
    if as_json:
        typer.echo(json.dumps(checked.to_dict(), indent=2))
    else:
        _print_check(checked)
    raise typer.Exit(1 if checked.wrong else 0)


def _print_check(checked: "DataCheck") -> None:
    typer.echo(
        f"{checked.name}: {checked.clips_with_video:,} of {checked.clips:,} clips have a video"
    )
    for count in checked.counts:
        said = (
            "no published number"
            if count.published is None
            else f"as published ({count.source})"
            if count.found == count.published
            else f"published: {count.published:,} ({count.source})"
        )
        typer.echo(f"  {count.split:11} {count.found:>11,} {count.what:9} {said}")
    for finding in checked.findings:
        typer.echo(str(finding))
    typer.echo(f"{checked.wrong} wrong, {len(checked.findings) - checked.wrong} notices")


@data_app.command("prepare")
def data_prepare(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    data_root: DataRoot = None,
    skip_bad_rows: Annotated[
        bool,
        typer.Option("--skip-bad-rows", help="Leave out rows that break a rule, and list them."),
    ] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Check every row and write clips, questions and captions as Parquet, which opens at once.

    The tables lie in prepared/<name> beside the annotation files and are used while those do not
    change. Without --skip-bad-rows, one row that breaks a rule ends it. Exit code 1 if any was left out.
    """
    from rich.console import Console
    from rich.progress import Progress

    from pipelines.datasets.registry import require_files
    from pipelines.prepared import prepare, prepared_folder

    found, root = located_dataset(dataset, home, data_root, seed)
    if dry_run:
        require_files(found, root)
        typer.echo(
            f"would write {prepared_folder(found, root)}: clips, questions, captions, evidence"
        )
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"prepare {found.name}", total=None)
        made = prepare(
            found,
            root,
            skip_bad_rows=skip_bad_rows,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        problems = [str(problem) for problem in made.problems]
        record = made.to_dict() | {"folder": str(made.folder), "problems": problems}
        typer.echo(json.dumps(record, indent=2))
    else:
        typer.echo(
            f"{made.folder}: {made.clips:,} clips, {made.questions:,} questions, "
            f"{made.captions:,} captions"
        )
        for reason, count in made.noted.items():
            typer.echo(f"  {count:,} entries: {reason}")
        for problem in made.problems:
            typer.echo(f"  skipped: {problem}")
        if made.bad_rows:
            typer.echo(f"{made.bad_rows:,} rows were skipped")
    raise typer.Exit(1 if made.bad_rows else 0)


@data_app.command("template")
def data_template(home: Home = Path(), data_root: DataRoot = None, dry_run: DryRun = False) -> None:
    """Write example tables for a data set of your own, to change and then `extract custom`."""
    from pipelines.datasets.template import FILES, write_template

    _, root = located_dataset("custom", home, data_root)
    if dry_run:
        for name, text in FILES.items():
            typer.echo(f"{root / name}:\n{text}")
        return
    for path in write_template(root):
        typer.echo(f"written: {path}")


@data_app.command("make")
def data_make(dataset: DatasetName, seed: Seed = 1, home: Home = Path()) -> None:
    """Render the demo's videos and write its questions."""
    from pipelines import steps
    from pipelines.datasets.registry import find
    from pipelines.workspace import Workspace

    steps.make_data(Workspace(home=home, dataset=find(dataset), seed=seed), typer.echo)
