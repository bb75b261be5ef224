"""The commands `videodistill train|pretrain|evaluate|report`: stage two of a data set, step by step."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache_schema.errors import InputError
from pipelines.data_commands import DataRoot, DatasetName, Home
from pipelines.extract_options import ModelConfig, Tag, Tokenizer

if TYPE_CHECKING:
    from pipelines.encoders import EncoderFiles
    from pipelines.experiment import Experiment

Seed = Annotated[
    int,
    typer.Option(
        min=1, help="Seed of the demo's videos and of training; each has its own folders."
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
StartFrom = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a run, as runs/webvid/videodistill: the main run alone starts from its best weights. "
        "Its folder is from-<that run>; give the same to evaluate and report.",
        file_okay=False,
    ),
]
Run = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a run that was trained on another data set, to be asked as it is; what it answers goes to "
        "runs/<data set>/by-<that run>.",
        file_okay=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="The encoder's weights, for runs that mask words or train its text tower; the demo's are found by "
        "themselves.",
        exists=True,
        dir_okay=False,
    ),
]
AllowUnknownIdentity = Annotated[
    bool,
    typer.Option(
        "--allow-unknown-identity",
        help="Train on an imported store that does not know all of its features' origin.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the runs' full configurations; train nothing.")
]


def _accepted_gaps(skip_missing: bool, min_coverage: float | None) -> list[str]:
    """As options of the run: its folder then tells what was accepted."""
    if skip_missing and min_coverage is not None:
        raise InputError("--skip-missing is --min-coverage 0; give one of them.")
    least = 0.0 if skip_missing else min_coverage
    return [] if least is None else [f"min_coverage={least}"]


def experiment_of(
    dataset: str,
    seed: int,
    home: Path,
    store: str | None = None,
    preset: str | None = None,
    overrides: list[str] | None = None,
    data_root: Path | None = None,
    *,
    start_from: Path | None = None,
    run: Path | None = None,
    encoder: "EncoderFiles | None" = None,
    joined: "Sequence[Experiment]" = (),
) -> "Experiment":
    """What the options of the commands of stage two mean.

    Raises:
        InputError: There is no such data set or store, or options that exclude each other are given.
    """
    from rich.console import Console

    from pipelines.datasets.registry import find
    from pipelines.encoders import default_store
    from pipelines.experiment import Experiment
    from pipelines.presets import own_preset
    from pipelines.workspace import Workspace

    if run is not None and (preset or start_from):
        raise InputError(
            "--run is asked as it was trained; --preset and --start-from are for others."
        )
    space = Workspace(home=home, dataset=find(dataset), seed=seed, data_root=data_root)
    return Experiment(
        workspace=space,
        store_path=store or default_store(space),
        preset=preset or own_preset(space.dataset),
        overrides=overrides or [],
        console=Console(),
        start_from=start_from,
        run=run,
        encoder=encoder,
        joined=joined,
    )


def _accepted_identity(allow_unknown: bool) -> list[str]:
    """As an option of the run: its folder then tells that this was accepted."""
    return ["allow_unknown_identity=true"] if allow_unknown else []


def _encoder_files(
    weights: Path | None, model_config: Path | None, tag: str | None, tokenizer: Path | None
) -> "EncoderFiles":
    from pipelines.encoders import EncoderFiles

    return EncoderFiles(
        weights=weights, model_config=model_config, pretrained_tag=tag, tokenizer=tokenizer
    )


def _train(experiment: "Experiment", *, dry_run: bool) -> None:
    from pipelines import steps

    if not dry_run:
        steps.train(experiment)
        return
    for name, config in experiment.runs.items():
        experiment.say(f"{name}: {config.to_dict()}")


def train(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    store: Store = None,
    preset: Preset = None,
    overrides: Set = None,
    start_from: StartFrom = None,
    data_root: DataRoot = None,
    allow_unknown_identity: AllowUnknownIdentity = False,
    skip_missing: SkipMissing = False,
    min_coverage: MinCoverage = None,
    weights: Weights = None,
    model_config: ModelConfig = None,
    tag: Tag = None,
    tokenizer: Tokenizer = None,
    dry_run: DryRun = False,
) -> None:
    """Stage two: train VideoDistill and its rivals from the feature store.

    The preset says what is learned: answers in words, choices, or captions. Interrupted runs go on where
    they were; complete ones are skipped.
    """
    changes = [
        *(overrides or []),
        *_accepted_identity(allow_unknown_identity),
        *_accepted_gaps(skip_missing, min_coverage),
    ]
    experiment = experiment_of(
        dataset,
        seed,
        home,
        store,
        preset,
        changes,
        data_root,
        start_from=start_from,
        encoder=_encoder_files(weights, model_config, tag, tokenizer),
    )
    _train(experiment, dry_run=dry_run)


def pretrain(
    datasets: Annotated[
        list[str],
        typer.Argument(
            help="Data sets with captions, as `videodistill data ls` lists them; several are trained on together "
            "if their stores hold features of one identity."
        ),
    ],
    seed: Seed = 1,
    home: Home = Path(),
    store: Store = None,
    preset: Preset = None,
    overrides: Set = None,
    start_from: StartFrom = None,
    data_root: DataRoot = None,
    allow_unknown_identity: AllowUnknownIdentity = False,
    skip_missing: SkipMissing = False,
    min_coverage: MinCoverage = None,
    weights: Weights = None,
    model_config: ModelConfig = None,
    tag: Tag = None,
    tokenizer: Tokenizer = None,
    dry_run: DryRun = False,
) -> None:
    """Stage two on captions: matching, hidden words, and the contrastive constraint (Eq. 7-10).

    The preset is the one that pretrains on the first data set; the text tower that hidden words need is
    in the encoder's weights. Go on from the run with `train --start-from`, or ask it as it is with
    `evaluate --run`. Runs of several data sets lie in runs/<one>+<other>.
    """
    from pipelines.datasets.registry import find
    from pipelines.presets import pretraining_preset

    first, *others = dict.fromkeys(datasets)
    if others and (store or data_root):
        raise InputError("--store and --data-root are of one data set, and several are named.")
    preset = preset or pretraining_preset(find(first))
    changes = [
        *(overrides or []),
        *_accepted_identity(allow_unknown_identity),
        *_accepted_gaps(skip_missing, min_coverage),
    ]
    experiment = experiment_of(
        first,
        seed,
        home,
        store,
        preset,
        changes,
        data_root,
        start_from=start_from,
        encoder=_encoder_files(weights, model_config, tag, tokenizer),
        joined=[experiment_of(name, seed, home, preset=preset) for name in others],
    )
    _train(experiment, dry_run=dry_run)


def evaluate(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    store: Store = None,
    preset: Preset = None,
    overrides: Set = None,
    start_from: StartFrom = None,
    run: Run = None,
    shortlist: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Finding clips by captions: look only at so many clips for each caption, those nearest to it "
            "by cosine. By default each pair is looked at, a pass of the model each.",
        ),
    ] = None,
    data_root: DataRoot = None,
    skip_missing: SkipMissing = False,
    min_coverage: MinCoverage = None,
    weights: Weights = None,
    model_config: ModelConfig = None,
    tag: Tag = None,
    tokenizer: Tokenizer = None,
) -> None:
    """Ask every trained run the test questions, or to find the test clips by their captions.

    Writes summary.json, and each run's predictions_test.parquet or retrieval_test.npz.
    """
    from pipelines import evaluation
    from pipelines.summary import summary_table

    changes = [*(overrides or []), *_accepted_gaps(skip_missing, min_coverage)]
    experiment = experiment_of(
        dataset,
        seed,
        home,
        store,
        preset,
        changes,
        data_root,
        start_from=start_from,
        run=run,
        encoder=_encoder_files(weights, model_config, tag, tokenizer),
    )
    summary = evaluation.evaluate(experiment, shortlist=shortlist)
    experiment.console.print(summary_table(summary))


def report(
    dataset: DatasetName,
    seed: Seed = 1,
    home: Home = Path(),
    store: Store = None,
    preset: Preset = None,
    overrides: Set = None,
    start_from: StartFrom = None,
    run: Run = None,
    data_root: DataRoot = None,
) -> None:
    """Write report.html: the numbers, the curves, and the frames that were looked at."""
    from pipelines import steps

    steps.report(
        experiment_of(
            dataset,
            seed,
            home,
            store,
            preset,
            overrides,
            data_root,
            start_from=start_from,
            run=run,
        )
    )
