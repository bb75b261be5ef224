"""The command line `videodistill`: parses, calls one step, prints; the only place of its kind."""

import errno
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from cache_schema.errors import InputError, VideoDistillError
from pipelines.data_commands import data_app
from pipelines.encoder_commands import encoders_app
from pipelines.extract_commands import extract
from pipelines.frames_commands import frames
from pipelines.run_commands import runs_app
from pipelines.score_commands import score, table
from pipelines.store_commands import store_app
from pipelines.store_exchange_commands import exchange_app
from pipelines.store_life_commands import life_app
from pipelines.store_sharing_commands import sharing_app

if TYPE_CHECKING:
    from pipelines.experiment import Experiment

app = typer.Typer(
    name="videodistill",
    help="Frozen CLIP once per video, then cheap experiments: VideoDistill as a two-stage feature cache.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
app.add_typer(encoders_app, name="encoders")
app.add_typer(runs_app, name="runs")
app.command()(extract)
app.command()(frames)
app.command()(score)
app.command()(table)
store_app.add_typer(sharing_app)
store_app.add_typer(exchange_app)
store_app.add_typer(life_app)

INTERRUPTED = 130
_MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE}

DatasetName = Annotated[
    str, typer.Argument(help="Name of the data set; `videodistill data ls` lists them.")
]
Seed = Annotated[
    int,
    typer.Option(
        min=1, help="Seed of the demo's videos and of training; each has its own folders."
    ),
]
Home = Annotated[
    Path, typer.Option(help="Folder that holds data/, stores/ and runs/.", file_okay=False)
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the annotations and videos, where it is not data/<name>.", file_okay=False
    ),
]
Store = Annotated[
    str | None,
    typer.Option(help="Path or URL of the feature store, where it is not the data set's only one."),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Runs: a TOML file or a shipped preset (docs/scores.md: table4, figure5, baselines, ...); by "
        "default the data set's own."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Change an option of every run, as in --set model.selected=16. Repeatable."
    ),
]

SkipMissing = Annotated[
    bool,
    typer.Option(
        "--skip-missing",
        help="Leave out questions whose clips have no features, however many; without it, one is refused.",
    ),
]
MinCoverage = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Leave out questions whose clips have no features, if at least this share of each split is left.",
    ),
]


def _accepted_gaps(skip_missing: bool, min_coverage: float | None) -> list[str]:
    """As an option of the run: its folder then tells what was accepted."""
    if skip_missing and min_coverage is not None:
        raise InputError("--skip-missing is --min-coverage 0; give one of them.")
    least = 0.0 if skip_missing else min_coverage
    return [] if least is None else [f"min_coverage={least}"]


def _experiment(
    dataset: str,
    seed: int,
    home: Path,
    store: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    data_root: Path | None = None,
) -> "Experiment":
    from pipelines.datasets.registry import find
    from pipelines.encoders import default_store
    from pipelines.experiment import Experiment
    from pipelines.presets import own_preset
    from pipelines.workspace import Workspace

    space = Workspace(home=home, dataset=find(dataset), seed=seed, data_root=data_root)
    return Experiment(
        workspace=space,
        store_path=store or default_store(space),
        preset=preset or own_preset(space.dataset),
        overrides=overrides or [],
        console=Console(),
    )


@app.command()
def train(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    store: Store = None,
    preset: Preset = None,
    overrides: Set = None,
    data_root: DataRoot = None,
    allow_unknown_identity: Annotated[
        bool,
        typer.Option(
            "--allow-unknown-identity",
            help="Train on an imported store that does not know all of its features' origin.",
        ),
    ] = False,
    skip_missing: SkipMissing = False,
    min_coverage: MinCoverage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the runs' full configurations; train nothing.")
    ] = False,
) -> None:
    """Stage two: train VideoDistill and its rivals from the feature store.

    Interrupted runs go on where they were; complete ones are skipped.
    """
    from pipelines import steps

    # An option of the run: its folder then tells that this was accepted.
    accepted = ["allow_unknown_identity=true"] if allow_unknown_identity else []
    accepted += _accepted_gaps(skip_missing, min_coverage)
    experiment = _experiment(
        dataset, seed, home, store, preset, [*(overrides or []), *accepted], data_root
    )
    if dry_run:
        for name, config in experiment.runs.items():
            experiment.say(f"{name}: {config.to_dict()}")
        return
    steps.train(experiment)


@app.command()
def evaluate(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    store: Store = None,
    preset: Preset = None,
    overrides: Set = None,
    data_root: DataRoot = None,
    skip_missing: SkipMissing = False,
    min_coverage: MinCoverage = None,
) -> None:
    """Answer the test questions with every trained run; write summary.json and predictions."""
    from pipelines import evaluation
    from pipelines.summary import summary_table

    accepted = _accepted_gaps(skip_missing, min_coverage)
    experiment = _experiment(
        dataset, seed, home, store, preset, [*(overrides or []), *accepted], data_root
    )
    experiment.console.print(summary_table(evaluation.evaluate(experiment)))


@app.command()
def report(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    store: Store = None,
    preset: Preset = None,
    overrides: Set = None,
    data_root: DataRoot = None,
) -> None:
    """Write report.html: the numbers, the curves, and the frames that were looked at."""
    from pipelines import steps

    steps.report(_experiment(dataset, seed, home, store, preset, overrides, data_root))


@app.command()
def demo(seed: Seed = 1, home: Home = Path()) -> None:
    """All steps on rendered videos: data, extract, train, evaluate, report. Skips what is done."""
    from pipelines import evaluation, steps
    from pipelines.encoders import encoder_spec
    from pipelines.summary import summary_table

    experiment = _experiment("demo", seed, home)
    space = experiment.workspace
    steps.make_data(space, typer.echo)
    spec = encoder_spec(space.dataset)
    tally = steps.extract(space, experiment.annotations, spec, typer.echo)
    if tally.exit_code:
        raise typer.Exit(tally.exit_code)
    steps.train(experiment)
    summary = evaluation.evaluate(experiment)
    page = steps.report(experiment)
    experiment.console.print(summary_table(summary))
    experiment.say(f"numbers: {page.with_name('summary.json')}\npage:    {page}")


@app.command("demo-seeds")
def demo_seeds(
    home: Home = Path(),
    seeds: Annotated[int, typer.Option(min=1, help="How many training seeds.")] = 5,
    results: Annotated[Path, typer.Option(help="Folder for the result file.")] = Path(
        "benchmarks/results"
    ),
) -> None:
    """Train the demo with several seeds on the same videos; write how many converge."""
    from pipelines.demo_seeds import measure_seeds

    experiment = _experiment("demo", 1, home)
    experiment.say(f"demo-seeds: {measure_seeds(experiment, seeds, results)}")


@app.command("demo-encoder")
def demo_encoder(
    folder: Annotated[
        Path | None,
        typer.Option(help="Where weights and card go; by default over the shipped ones."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=8, help="Training steps, for a quick try.")
    ] = None,
) -> None:
    """Train the demo's small CLIP anew on renders that share no seed with any data set."""
    from dataclasses import replace

    from pipelines.datasets.demo.encoder_files import ENCODER_DIR
    from pipelines.datasets.demo.encoder_training import EncoderTraining, train_encoder

    config = EncoderTraining()
    if steps is not None:
        warm_up = max(2, steps * config.warm_up // config.steps)
        config = replace(config, steps=steps, warm_up=warm_up)
    target = folder or ENCODER_DIR
    target.mkdir(parents=True, exist_ok=True)
    for name, value in train_encoder(config, target, typer.echo).items():
        typer.echo(f"{name}: {value:.4g}")


def main() -> None:
    """Entry point: errors that we raise on purpose are one message and an exit code, no traceback."""
    # Read when torch loads. Threads that wait for work then sleep instead of spinning, which costs
    # little alone and saves a factor beside other jobs on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Where there is no terminal, extraction tells its progress to this log.
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("extract").setLevel(logging.INFO)
    try:
        app()
    except VideoDistillError as error:
        typer.echo(f"videodistill: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _MACHINE_FAULTS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        what = (
            f"{error.strerror}{where}. What was done is kept; mend that, and run the command again"
        )
        typer.echo(f"videodistill: {what}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("videodistill: interrupted; the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
