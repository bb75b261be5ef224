"""The commands `videodistill score` and `videodistill table`: official scores, and the paper's beside ours."""

import json
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from pipelines.data_commands import DataRoot, DatasetName, Home, Json, Seed


def score(
    dataset: DatasetName,
    predictions: Annotated[
        Path,
        typer.Argument(
            help="What was answered: our predictions_<split>.parquet, .jsonl, .json; for retrieval a "
            "matrix of scores, .npy or .npz. docs/scores.md has the forms."
        ),
    ],
    split: Annotated[
        str | None,
        typer.Option(help="train, val or test; by default the one that results are reported on."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Count questions without a prediction as wrong."),
    ] = False,
    compat: Annotated[
        bool,
        typer.Option("--compat", help="Add the numbers as the owners' public code counts them."),
    ] = False,
    seed: Seed = 1,
    home: Home = Path(),
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Score predictions as the data set's owners do, with their break-down.

    Questions that are missing, there twice or of another data set end it, with exit code 2.
    """
    from cache_schema.errors import InputError
    from cache_schema.tables.question_table import Split
    from pipelines.data_commands import located_dataset
    from pipelines.prepared import load
    from pipelines.scores.score_report import describe_score
    from pipelines.scores.score_report import score as score_predictions

    if split is not None and split not in get_args(Split):
        raise InputError(f"--split is {split!r}; it can be {', '.join(get_args(Split))}.")
    found, root = located_dataset(dataset, home, data_root, seed)
    report = score_predictions(
        found,
        load(found, root),
        predictions,
        root=root,
        split=cast("Split | None", split),
        allow_missing=allow_missing,
        compat=compat,
    )
    typer.echo(json.dumps(report.to_dict(), indent=2) if as_json else describe_score(report))


def table(
    number: Annotated[int, typer.Argument(min=1, max=4, help="Which of the paper's tables.")],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Evaluated runs, runs/<data set>/<run>; with none, the published numbers alone."
        ),
    ] = None,
    home: Home = Path(),
    data_root: DataRoot = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a Markdown table, for a page.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print a table of the paper with our runs and their differences beside it.

    1: AGQA by reasoning type. 2: EgoTaskQA. 3: EgoTaskQA without the video. 4: the modules. What a run
    stands beside is told by its configuration: VideoDistill, HCRN, PSAC, MIST, Temp[ATP], a variant of
    Table 4, with or without the video.
    """
    from rich.console import Console

    from cache_schema.errors import InputError
    from pipelines.scores.paper_tables import paper_table
    from pipelines.scores.table_report import as_markdown, as_text, beside_the_paper

    if markdown and as_json:
        raise InputError("--markdown and --json are two forms; choose one.")
    published, scored = paper_table(number), []
    if runs:
        from pipelines.scores.scored_runs import score_runs

        scored = score_runs(runs, published.datasets, home, data_root)
    compared = beside_the_paper(published, scored)
    if as_json:
        typer.echo(json.dumps(compared.to_dict(), indent=2))
    elif markdown:
        typer.echo(as_markdown(compared))
    else:
        Console().print(as_text(compared))
