"""The commands `videodistill store ...` that look at feature stores: list, describe, check, compare."""

from pathlib import Path
from typing import Annotated

import typer

store_app = typer.Typer(
    help="Look into feature stores, check them, hand them on.", no_args_is_help=True
)

Store = Annotated[str, typer.Argument(help="The store: its folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@store_app.command("ls")
def store_ls(
    folder: Annotated[
        Path, typer.Argument(help="A folder of stores, up to three levels deep.", file_okay=False)
    ] = Path("stores"),
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Check every store as `verify --quick` does (the default)."
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """List the stores of a folder: what they are, how many clips, how large, how healthy.

    What is damaged, foreign or of a later version is a row with its reason.
    """
    from cache_schema.sharing.store_listing import list_stores
    from pipelines.store_report import print_json, print_listing

    stores = list(list_stores(folder, check=check, skip=lambda path: path.suffix == ".sentences"))
    if as_json:
        print_json([store.to_json() for store in stores])
    else:
        print_listing(stores, folder)


@store_app.command("info")
def store_info(
    store: Store,
    version: Annotated[
        int | None, typer.Option(help="Manifest version; by default the newest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a store is and holds: identity, versions, clips, failures, decoders, size."""
    from cache_schema.sharing.store_listing import describe_store
    from pipelines.store_report import print_info, print_json

    info = describe_store(store, version)
    if as_json:
        print_json(info.to_json())
    else:
        print_info(info)


@store_app.command("verify")
def store_verify(
    store: Store,
    quick: Annotated[
        bool, typer.Option("--quick", help="Lengths, commits and manifest only.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a store: every checksum, and features that cannot be right.

    Exit code 1 if anything is wrong, 2 if there is no store to check. What an interrupted job left
    behind is a notice, not a wrong.
    """
    from dataclasses import asdict

    from cache_schema import verify_store
    from pipelines.clip_progress import clip_progress
    from pipelines.store_report import print_findings, print_json

    with clip_progress("checking") as on_clip:
        findings = verify_store(store, quick=quick, on_clip=on_clip)
    wrong = any(finding.severity != "notice" for finding in findings)
    if as_json:
        listed = [asdict(finding) for finding in findings]
        print_json({"location": store, "quick": quick, "sound": not wrong, "findings": listed})
    else:
        print_findings(store, findings)
    raise typer.Exit(1 if wrong else 0)


@store_app.command("diff")
def store_diff(
    a: Annotated[str, typer.Argument(help="A store.")],
    b: Annotated[str, typer.Argument(help="The store to compare it with.")],
    sample: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Measure at most this many of the clips that differ; all are found in any case.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two stores: identity, clips, and how far apart the features of each clip are.

    Clips with equal digests are not read. Exit code 1 if the stores differ in anything.
    """
    from cache_schema import open_store
    from cache_schema.sharing.store_difference import compare_stores
    from pipelines.clip_progress import clip_progress
    from pipelines.store_report import print_difference, print_json

    with clip_progress("comparing") as on_clip:
        difference = compare_stores(open_store(a), open_store(b), sample=sample, on_clip=on_clip)
    if as_json:
        print_json({"a": a, "b": b, **difference.to_json()})
    else:
        print_difference(difference)
    raise typer.Exit(0 if difference.equal else 1)
