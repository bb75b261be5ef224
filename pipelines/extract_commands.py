"""The command `videodistill extract`: stage one of a data set, or of one's own videos."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines import extract_options
from pipelines.data_commands import DataRoot, Home, Seed

if TYPE_CHECKING:
    from extract.encoder_spec import EncoderSpec
    from extract.job_options import JobOptions
    from extract.progress import ProgressDisplay
    from extract.tally import Tally
    from pipelines.datasets.annotations import Annotations
    from pipelines.datasets.dataset import Dataset
    from pipelines.own_videos import OwnVideos
    from pipelines.workspace import Workspace


def extract(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            help="Name of a data set (`videodistill data ls`); or videos, folders of videos and "
            "clip lists (.csv) of your own, with --out. None with --recipe."
        ),
    ] = None,
    seed: Seed = 1,
    home: Home = Path(),
    data_root: DataRoot = None,
    model: extract_options.Model = None,
    weights: extract_options.Weights = None,
    model_config: extract_options.ModelConfig = None,
    precision: extract_options.Precision = "fp32",
    tag: extract_options.Tag = None,
    token_space: extract_options.TokenSpace = "joint",  # noqa: S107 -- no password
    tokenizer: extract_options.Tokenizer = None,
    compile_tower: extract_options.Compile = False,
    device: extract_options.Device = "auto",
    frames: Annotated[int, typer.Option(min=1, help="N, frames cached per clip.")] = 100,
    workers: extract_options.Workers = None,
    backend: extract_options.DecoderName = "pyav",
    scheduler: extract_options.Scheduler = None,
    slurm: extract_options.Slurm = False,
    slurm_file: extract_options.SlurmFile = None,
    slurm_set: extract_options.SlurmSet = None,
    status: extract_options.Status = None,
    allow_roots: extract_options.AllowRoots = None,
    follow_links: extract_options.FollowLinks = False,
    store: Annotated[
        str | None,
        typer.Option(
            help="Path or URL (s3://bucket/folder) of a data set's store; by default "
            "stores/<data set>/."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="Path or URL of the store for videos of your own, or with --recipe; made if absent."
        ),
    ] = None,
    pool: extract_options.Pool = None,
    int8: extract_options.Int8 = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try clips again that failed earlier.")
    ] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="Extract this recipe's store again, and compare.")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="With --recipe: the folder of the videos.", file_okay=False)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be done, and its size; write nothing, submit nothing."
        ),
    ] = False,
) -> None:
    """Stage one: decode every clip, run frozen CLIP over N frames, write the feature store.

    May be stopped or killed at any moment: run it again and it does what is missing. What exists
    as a file or folder is taken as such; otherwise a single name is that of a data set. Exit code 1
    if any clip failed; the reasons stand in a CSV beside the store.
    """
    from pipelines.encoders import encoder_spec
    from pipelines.own_videos import own_videos
    from pipelines.recipe_commands import extract_recipe

    named = extract_options.named_weights(model, weights, tag, model_config)
    if recipe is not None:
        code = extract_recipe(
            recipe, dataset=what[0] if what else None, videos=videos, out=out,
            weights=named.located(dry_run=dry_run), model_config=model_config, tag=named.tag,
            workers=workers, backend=backend, dry_run=dry_run,
        )  # fmt: skip
        raise typer.Exit(code)
    options = extract_options.job_options(
        backend=backend, scheduler=scheduler, allow_roots=allow_roots or (),
        follow_links=follow_links, pool=pool, int8=int8,
        slurm=extract_options.slurm_options(slurm, slurm_file, slurm_set or ()),
    )  # fmt: skip
    chosen = extract_options.dataset_or_paths(what or [], out=out, store=store, data_root=data_root)
    # What clips lack is said before what their encoder lacks, and before its weights are fetched.
    dataset = None if isinstance(chosen, list) else chosen
    ready, found = None, None
    if isinstance(chosen, list):
        found = own_videos(chosen, follow_links=follow_links)
    else:
        ready = _ready(chosen, seed, home, data_root, dry_run)
    spec = encoder_spec(
        dataset, model, named.located(dry_run=dry_run), model_config, precision,
        tag=named.tag, token_space=token_space, tokenizer=tokenizer, compile_tower=compile_tower,
        device=extract_options.device_of(device, options),
    )  # fmt: skip
    job = _Job(
        spec=spec, options=options, frames=frames, workers=workers, retry_failed=retry_failed,
        status=status, dry_run=dry_run,
    )  # fmt: skip
    tally = None
    if found is not None:
        tally = job.own(found, str(out))
    elif ready is not None:
        space, annotations = ready
        tally = job.dataset(space, annotations, store)
    raise typer.Exit(0 if tally is None else tally.exit_code)


def _ready(
    dataset: "Dataset", seed: int, home: Path, data_root: Path | None, dry_run: bool
) -> "tuple[Workspace, Annotations]":
    """The data set in its workspace; the demo is rendered first, unless that would write."""
    from pipelines import steps
    from pipelines.workspace import Workspace

    space = Workspace(home=home, dataset=dataset, seed=seed, data_root=data_root)
    if dataset.folder == "demo" and not dry_run:
        steps.make_data(space, typer.echo)
    return space, steps.annotations_with_videos(space)


class _Job:
    """One call of the command, whatever its clips are."""

    def __init__(
        self,
        *,
        spec: "EncoderSpec",
        options: "JobOptions",
        frames: int,
        workers: int | None,
        retry_failed: bool,
        status: Path | None,
        dry_run: bool,
    ) -> None:
        self._spec = spec
        self._options = options
        self._frames = frames
        self._workers = workers
        self._retry_failed = retry_failed
        self._status = status
        self._dry_run = dry_run

    def dataset(
        self, space: "Workspace", annotations: "Annotations", store: str | None
    ) -> "Tally | None":
        """Extracts a data set; returns None after a dry run."""
        from pipelines import steps

        if self._dry_run:
            planned = steps.describe_plan(
                space, annotations, self._spec, self._frames,
                retry_failed=self._retry_failed, store=store, options=self._options,
            )  # fmt: skip
            self._say_plan(planned)
            return None
        target = steps.extraction_target(space, self._spec, self._frames, store, self._options)
        with self._display(str(target)) as progress:
            return steps.extract(
                space, annotations, self._spec, typer.echo, frames=self._frames,
                retry_failed=self._retry_failed, workers=self._workers, store=store,
                options=self._options, progress=progress,
            )  # fmt: skip

    def own(self, found: "OwnVideos", out: str) -> "Tally | None":
        """Extracts videos of one's own; returns None after a dry run."""
        from extract.job import plan_extraction, run_extraction
        from extract.progress import describe

        extra = (*self._options.extra_roots, *found.extra_roots)
        options = replace(self._options, root=found.root, extra_roots=extra)
        if self._dry_run:
            plan = plan_extraction(
                found.clips, out, self._spec, frames=self._frames,
                retry_failed=self._retry_failed, options=options,
            )  # fmt: skip
            self._say_plan(f"{out}: {describe(plan)}")
            return None
        with self._display(out) as progress:
            tally = run_extraction(
                found.clips, out, self._spec, frames=self._frames, workers=self._workers,
                retry_failed=self._retry_failed, progress=progress, options=options,
            )  # fmt: skip
        for failure in tally.failures:
            typer.echo(f"  failed: {failure.clip_id}: {failure.reason}: {failure.detail}")
        return tally

    def _say_plan(self, plan: str) -> None:
        typer.echo(f"{plan}, on {self._spec.device}")
        if self._options.slurm is not None:
            from extract.slurm_cluster import job_script

            slurm = self._options.slurm
            blocks = 1 if self._spec.device != "cpu" else slurm.cores_per_process
            typer.echo(job_script(slurm, blocks + 1))

    @contextmanager
    def _display(self, store: str) -> Iterator["ProgressDisplay"]:
        from extract.progress import Both, progress_for

        display = progress_for(sys.stderr)
        if self._status is None:
            yield display
            return
        from extract.status_file import StatusFile

        with StatusFile(self._status, store) as file:
            yield Both(display, file)
