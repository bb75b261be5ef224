"""The commands `videodistill data ...`: which data sets there are, what they want, what is there."""

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(
    help="What data sets there are, and rendering the demo.", no_args_is_help=True
)

DatasetName = Annotated[
    str, typer.Argument(help="Name of the data set; `videodistill data ls` lists them.")
]
Seed = Annotated[int, typer.Option(min=1, help="Seed of the demo's videos.")]
Home = Annotated[
    Path, typer.Option(help="Folder that holds data/, stores/ and runs/.", file_okay=False)
]


@data_app.command("ls")
def data_ls() -> None:
    """List the data sets."""
    from pipelines.datasets.registry import known

    for dataset in known().values():
        typer.echo(f"{dataset.name:15} {dataset.about}")


@data_app.command("info")
def data_info(dataset: DatasetName, seed: Seed = 1, home: Home = Path()) -> None:
    """Say which files a data set needs and where; nothing is read."""
    from pipelines.datasets.registry import find
    from pipelines.workspace import Workspace

    found = find(dataset)
    root = Workspace(home=home, dataset=found, seed=seed).data
    typer.echo(f"{found.name}: {found.about}\n{found.wanted.format(root=root)}")


@data_app.command("make")
def data_make(dataset: DatasetName, seed: Seed = 1, home: Home = Path()) -> None:
    """Render the demo's videos and write its questions."""
    from pipelines import steps
    from pipelines.datasets.registry import find
    from pipelines.workspace import Workspace

    steps.make_data(Workspace(home=home, dataset=find(dataset), seed=seed), typer.echo)
