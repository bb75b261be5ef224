"""The commands `videodistill demo|demo-encoder`: all steps on rendered videos, and the CLIP that reads them."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.data_commands import Home
from pipelines.training_commands import Seed, experiment_of


def demo(seed: Seed = 1, home: Home = Path()) -> None:
    """All steps on rendered videos: data, extract, train, evaluate, report. Skips what is done."""
    from pipelines import evaluation, steps
    from pipelines.encoders import encoder_spec
    from pipelines.summary import summary_table

    experiment = experiment_of("demo", seed, home)
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
