"""The commands `videodistill store ...` that hand stores on: pull, merge, recipe, card."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.store_commands import AsJson, Store

if TYPE_CHECKING:
    from cache_schema import FeatureStore

sharing_app = typer.Typer()

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and its size; write nothing.")
]


@sharing_app.command("pull")
def store_pull(
    store: Store,
    target: Annotated[str, typer.Argument(help="The store to copy into; made if absent.")],
    questions: Annotated[
        Path | None,
        typer.Option(help="Copy the clips of this question table (Parquet).", dir_okay=False),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of the question table, only train, val or test.")
    ] = None,
    clips: Annotated[
        Path | None,
        typer.Option(
            help="Copy the clips of this list: one id a line, or a CSV with a column clip_id.",
            dir_okay=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Copy the clips that an experiment needs out of a store, verified on both sides.

    May be stopped at any moment: the same command goes on. Without a table or a list, all clips are
    copied. Exit code 1 if a clip could not be copied.
    """
    from cache_schema import open_store
    from pipelines.clip_choice import chosen_clips

    wanted = chosen_clips(questions=questions, split=split, clips=clips)
    _copy([open_store(store)], target, wanted, dry_run=dry_run, as_json=as_json)


@sharing_app.command("merge")
def store_merge(
    stores: Annotated[
        list[str], typer.Argument(help="Stores of one identity; the first goes before the others.")
    ],
    out: Annotated[str, typer.Option(help="The store to merge into; made if absent.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put stores of one identity together, failed clips included.

    Features go before a failure. Clips that several stores hold must be equal: if any are not, they
    are listed and nothing is copied.
    """
    from cache_schema import open_store

    _copy([open_store(store) for store in stores], out, None, dry_run=dry_run, as_json=as_json)


def _copy(
    sources: "Sequence[FeatureStore]",
    target: str,
    clip_ids: Sequence[str] | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from cache_schema.sharing.copy_plan import plan_copy
    from cache_schema.sharing.store_copy import copy_clips
    from pipelines.clip_progress import clip_progress
    from pipelines.store_report import print_copy, print_json, print_plan

    if dry_run:
        plan = plan_copy(sources, target, clip_ids)
        if as_json:
            print_json(plan.to_json())
        else:
            print_plan(plan)
        raise typer.Exit(1 if plan.missing or plan.conflicts else 0)
    with clip_progress("copying") as on_clip:
        report = copy_clips(sources, target, clip_ids, on_clip=on_clip)
    if as_json:
        print_json({"target": target, **asdict(report), "complete": report.complete})
    else:
        print_copy(report, target)
    raise typer.Exit(0 if report.complete else 1)


@sharing_app.command("recipe")
def store_recipe(
    store: Store,
    out: Annotated[
        Path | None, typer.Option(help="Write the store's recipe to this file.", dir_okay=False)
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(help="Hold the store against this recipe.", exists=True, dir_okay=False),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write a recipe: a small file from which others extract the same store, and can compare it.

    It holds identity, videos' digests, clip bounds and features' digests, and no features. Extract with
    `videodistill extract --recipe`. Exit code 1 if a store that is checked is not what the recipe says.
    """
    from cache_schema import InputError, open_store

    if (out is None) == (check is None):
        raise InputError("Give either --out, to write a recipe, or --check, to compare with one.")
    opened = open_store(store)
    if check is not None:
        _check_recipe(opened, check, as_json=as_json)
    elif out is not None:
        _write_recipe(opened, out, dry_run=dry_run, as_json=as_json)


def _check_recipe(store: "FeatureStore", recipe: Path, *, as_json: bool) -> None:
    from cache_schema.sharing.recipe import read_recipe
    from cache_schema.sharing.recipe_check import check_recipe
    from pipelines.clip_progress import clip_progress
    from pipelines.store_report import print_check, print_json

    with clip_progress("checking") as on_clip:
        found = check_recipe(read_recipe(recipe), store, on_clip=on_clip)
    if as_json:
        print_json({"store": store.location, "recipe": str(recipe), **found.to_json()})
    else:
        print_check(found)
    raise typer.Exit(0 if found.same else 1)


def _write_recipe(store: "FeatureStore", out: Path, *, dry_run: bool, as_json: bool) -> None:
    from cache_schema.sharing.recipe import encode_recipe, recipe_of, write_recipe
    from pipelines.clip_progress import clip_progress
    from pipelines.store_report import print_json, print_line, shown_bytes

    with clip_progress("reading") as on_clip:
        recipe = recipe_of(store, on_clip=on_clip)
    size = len(encode_recipe(recipe))
    if not dry_run:
        write_recipe(out, recipe)
    if as_json:
        about = {
            "recipe": str(out),
            "bytes": size,
            "clips": len(recipe.clips),
            "written": not dry_run,
        }
        print_json({**about, "digest": recipe.identity.digest, "version": recipe.version})
    else:
        done = "would be written" if dry_run else "written"
        print_line(f"{out}: {len(recipe.clips)} clips, {shown_bytes(size)}, {done}")


@sharing_app.command("card")
def store_card(
    store: Store,
    out: Annotated[
        Path, typer.Option(help="Folder for README.md and croissant.json.", file_okay=False)
    ],
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="Licence of the features, as in cc-by-4.0; else not stated."
        ),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where the store is published; else places in its folder.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write a store's card: a README as data set hubs show it, and Croissant metadata for programs."""
    from cache_schema.sharing.store_card import card_of, write_card
    from pipelines.store_report import print_json, print_lines, shown_bytes

    card = card_of(store, licence=licence, url=url)
    if not dry_run:
        write_card(out, card)
    sizes = {str(out / name): len(content) for name, content in card.items()}
    if as_json:
        print_json({"files": sizes, "written": not dry_run})
    else:
        done = "would be written" if dry_run else "written"
        print_lines(f"{name}: {shown_bytes(size)}, {done}" for name, size in sizes.items())
