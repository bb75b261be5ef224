"""The commands `videodistill store ...`: look into feature stores, check them, hand them on."""

from pathlib import Path
from typing import Annotated

import typer

store_app = typer.Typer(help="Look into feature stores and check them.", no_args_is_help=True)


@store_app.command("info")
def store_info(
    path: Annotated[Path, typer.Argument(help="The store's folder.")],
    version: Annotated[
        int | None, typer.Option(help="Manifest version; by default the newest.")
    ] = None,
) -> None:
    """Show what a store holds: identity, version, clips."""
    import json

    from cache_schema import open_store

    store = open_store(path, version)
    about = {
        "name": store.identity.name,
        "digest": store.identity.digest,
        "version": store.version,
        "clips": len(store.clip_ids),
        "failed": store.manifest().num_rows - len(store.clip_ids),
        "identity": store.identity.to_json(),
    }
    typer.echo(json.dumps(about, indent=2))


@store_app.command("verify")
def store_verify(
    path: Annotated[Path, typer.Argument(help="The store's folder.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Lengths, commits and manifest only.")
    ] = False,
) -> None:
    """Check a store: every checksum, and features that cannot be right.

    Exit code 1 if anything is wrong. What an interrupted job left behind is a notice, not a wrong.
    """
    from cache_schema import verify_store

    findings = verify_store(path, quick=quick)
    for finding in findings:
        typer.echo(str(finding))
    wrong = sum(finding.severity != "notice" for finding in findings)
    verdict = f"{wrong} findings" if wrong else "sound"
    typer.echo(f"{path}: {verdict}, {len(findings) - wrong} notices")
    raise typer.Exit(1 if wrong else 0)


@store_app.command("export")
def store_export(
    path: Annotated[Path, typer.Argument(help="The store's folder.")],
    target: Annotated[Path, typer.Argument(help="The HDF5 file to write; it must not exist.")],
    layout: Annotated[
        str, typer.Option(help="rows (HCRN's: one array and ids) or per-clip (one dataset an id).")
    ] = "rows",
    patches: Annotated[
        bool, typer.Option("--patches", help="Patch features too, not CLS alone.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the size; write nothing.")
    ] = False,
) -> None:
    """Write a store's features as HDF5, as other projects' loaders read them."""
    from typing import cast

    from cache_schema import open_store
    from cache_schema.hdf5_export import ExportLayout, export_bytes, export_hdf5

    store, chosen = open_store(path), cast("ExportLayout", layout)
    size = export_bytes(store, layout=chosen, patches=patches)
    typer.echo(f"{len(store)} clips, about {size / 1e6:.0f} MB")
    if not dry_run:
        export_hdf5(store, target, layout=chosen, patches=patches)
        typer.echo(f"written to {target}")
