"""The command `videodistill extract`: stage one of a data set, or of one's own videos."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines import extract_options
from pipelines.data_commands import DataRoot, Home, Seed


def extract(
    dataset: Annotated[
        str | None,
        typer.Argument(help="Name of the data set (`videodistill data ls`); none with --recipe."),
    ] = None,
    seed: Seed = 1,
    home: Home = Path(),
    data_root: DataRoot = None,
    model: Annotated[
        str | None,
        typer.Option(help="Encoder, as open_clip names it (ViT-B-16). The demo has its own."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="The encoder's weights: safetensors or .pt.", exists=True, dir_okay=False
        ),
    ] = None,
    model_config: Annotated[
        Path | None,
        typer.Option(
            help="JSON of an architecture that open_clip does not know.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Arithmetic of the vision tower: fp32, bf16 or fp16.")
    ] = "fp32",
    tag: extract_options.Tag = None,
    token_space: extract_options.TokenSpace = "joint",  # noqa: S107 -- no password
    tokenizer: extract_options.Tokenizer = None,
    compile_tower: Annotated[
        bool, typer.Option("--compile", help="Fuse the vision tower with torch.compile.")
    ] = False,
    frames: Annotated[int, typer.Option(min=1, help="N, frames cached per clip.")] = 100,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Worker processes; by default one per GPU. 0: all in this one."),
    ] = None,
    backend: extract_options.DecoderName = "pyav",
    scheduler: extract_options.Scheduler = None,
    allow_roots: extract_options.AllowRoots = None,
    follow_links: extract_options.FollowLinks = False,
    store: Annotated[
        str | None,
        typer.Option(
            help="Path or URL (s3://bucket/folder) of the store; by default stores/<data set>/."
        ),
    ] = None,
    pool: extract_options.Pool = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Keep patches as int8: half the size, lossy, measured.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try clips again that failed earlier.")
    ] = False,
    recipe: Annotated[
        Path | None, typer.Option(help="Extract this recipe's store again, and compare.")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(help="With --recipe: the folder of the videos.", file_okay=False)
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="With --recipe: the store to write; made if absent.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and its size; write nothing.")
    ] = False,
) -> None:
    """Stage one: decode every clip, run frozen CLIP over N frames, write the feature store.

    May be stopped or killed at any moment: run it again and it does what is missing.
    Exit code 1 if any clip failed; the reasons stand in a CSV beside the store.
    """
    from cache_schema.errors import InputError
    from cache_schema.patch_grid import parse_grid
    from pipelines import steps
    from pipelines.datasets.registry import find
    from pipelines.encoders import encoder_spec
    from pipelines.recipe_commands import extract_recipe
    from pipelines.workspace import Workspace

    if recipe is not None:
        code = extract_recipe(
            recipe,
            dataset=dataset,
            videos=videos,
            out=out,
            weights=weights,
            model_config=model_config,
            tag=tag,
            workers=workers,
            backend=backend,
            dry_run=dry_run,
        )
        raise typer.Exit(code)
    if dataset is None:
        raise InputError("Name a data set; `videodistill data ls` lists them.")
    grid = parse_grid(pool) if pool is not None else None
    space = Workspace(home=home, dataset=find(dataset), seed=seed, data_root=data_root)
    if space.dataset.folder == "demo" and not dry_run:
        steps.make_data(space, typer.echo)
    annotations = steps.annotations_with_videos(space)
    spec = encoder_spec(
        space.dataset,
        model,
        weights,
        model_config,
        precision,
        tag=tag,
        token_space=token_space,
        tokenizer=tokenizer,
        compile_tower=compile_tower,
    )
    if dry_run:
        planned = steps.describe_plan(
            space,
            annotations,
            spec,
            frames,
            retry_failed=retry_failed,
            store=store,
            pool=grid,
            int8=int8,
        )
        typer.echo(planned)
        return
    tally = steps.extract(
        space,
        annotations,
        spec,
        typer.echo,
        frames=frames,
        retry_failed=retry_failed,
        workers=workers,
        backend=backend,
        scheduler=scheduler,
        allow_roots=allow_roots or (),
        follow_links=follow_links,
        store=store,
        pool=grid,
        int8=int8,
    )
    raise typer.Exit(tally.exit_code)
