"""The commands `videodistill store ...` that keep a store healthy: repair, compact, gc, pin."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cache_schema.errors import InputError
from pipelines.store_commands import AsJson, Store
from pipelines.store_sharing_commands import DryRun

if TYPE_CHECKING:
    from cache_schema.upkeep.repair import RepairReport
    from pipelines.encoders import EncoderFiles

life_app = typer.Typer()

_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@life_app.command("repair")
def store_repair(
    store: Store,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", help="Take lost features from this store: a copy, or a new extraction."
        ),
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Extract clips again whose features are lost, from the videos in this folder.",
            file_okay=False,
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="With --videos: the encoder's weights.", exists=True, dir_okay=False),
    ] = None,
    model_config: Annotated[
        Path | None,
        typer.Option(
            help="With --videos: JSON of an architecture that open_clip does not know.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(help="With --videos: open_clip's name of the weights, or own."),
    ] = None,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Mark clips as failed (damaged) that nobody has any more."),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Put back what a store has lost: metadata and records by themselves, features from elsewhere.

    Sound files are not touched; of a damaged one a copy stays until `store gc` collects it. May be
    stopped and repeated. Exit code 1 if any damage stays; it is listed with what would help.
    """
    from cache_schema.upkeep.repair import plan_repair, repair_store
    from pipelines.clip_progress import clip_progress
    from pipelines.encoders import EncoderFiles
    from pipelines.store_report import print_json, print_lines

    if source is not None and videos is not None:
        raise InputError("Give --from or --videos, not both: each says where lost clips come from.")
    if dry_run:
        plan = plan_repair(store, source=source, drop=drop)
        if as_json:
            print_json(plan.to_json())
        else:
            print_lines(map(str, (*plan.steps, *plan.left)))
        raise typer.Exit(1 if plan.left else 0)
    with clip_progress("repairing") as on_step:
        report = repair_store(store, source=source, drop=drop and videos is None, on_step=on_step)
    if videos is not None and report.left:
        encoder = EncoderFiles(weights=weights, model_config=model_config, pretrained_tag=tag)
        report = _with_lost_clips(store, report, videos, encoder, drop=drop)
    if as_json:
        done, left = [step.to_json() for step in report.done], [str(item) for item in report.left]
        print_json({"location": store, "version": report.version, "done": done, "left": left})
    else:
        print_lines(map(str, (*report.done, *report.left)))
        verdict = f"{len(report.left)} not repaired" if report.left else "sound again"
        print_lines([f"{store}: {len(report.done)} steps, {verdict}, version {report.version}"])
    raise typer.Exit(1 if report.left else 0)


@life_app.command("compact")
def store_compact(store: Store, as_json: AsJson = False) -> None:
    """Fold what was committed into a new version of the manifest, so that new readers see it.

    Extraction does so itself; this is for a store whose job was killed.
    """
    from cache_schema import open_store
    from cache_schema.manifest.manifest_fold import fold_commits
    from cache_schema.store_root import read_root
    from pipelines.store_report import print_json, print_line

    version = fold_commits(read_root(store))
    clips = len(open_store(store))
    if as_json:
        print_json({"location": store, "version": version, "clips": clips})
    else:
        print_line(f"{store}: version {version}, {clips} clips")


@life_app.command("gc")
def store_gc(
    store: Store,
    older_than: Annotated[
        str, typer.Option(help="Spare what is younger: a number with s, m, h or d.")
    ] = "7d",
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove what nobody can ask for: leftovers, replaced features, old versions without a pin.

    Readers of a version that stopped being the newest longer ago lose it, unless it is pinned.
    """
    from cache_schema.upkeep.gc import collect, plan_gc
    from pipelines.clip_progress import clip_progress
    from pipelines.store_report import print_json, print_lines, shown_bytes

    age_s = seconds_of(older_than)
    if dry_run:
        plan = plan_gc(store, older_than_s=age_s)
    else:
        with clip_progress("collecting") as on_file:
            plan = collect(store, older_than_s=age_s, on_file=on_file)
    if as_json:
        print_json({**plan.to_json(), "dry_run": dry_run})
        return
    counts = Counter(item.kind for item in plan.garbage)
    what = "would be removed" if dry_run else "removed"
    print_lines(f"{item.kind}: {item.place}" for item in plan.garbage)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "nothing"
    kept = ", ".join(map(str, plan.kept_versions)) or "none"
    print_lines([f"{store}: {what}: {told} ({shown_bytes(plan.bytes)}); versions kept: {kept}"])


@life_app.command("pin")
def store_pin(
    store: Store,
    name: Annotated[str, typer.Argument(help="Name of the pin: letters, digits, . _ and -.")],
    version: Annotated[
        int | None, typer.Option(help="Manifest version; by default the newest.")
    ] = None,
    note: Annotated[str, typer.Option(help="One line on what it is kept for.")] = "",
) -> None:
    """Keep a version of the manifest, and all features it shows, from being collected."""
    from cache_schema.store_root import read_root
    from cache_schema.upkeep.pins import pin_version
    from pipelines.store_report import print_line

    pin = pin_version(read_root(store), name, version, note=note)
    print_line(f"{store}: {pin.name} pins version {pin.version}")


@life_app.command("unpin")
def store_unpin(
    store: Store, name: Annotated[str, typer.Argument(help="Name of the pin.")]
) -> None:
    """Let a version be collected that was pinned; its features go with the next `store gc`."""
    from cache_schema.store_root import read_root
    from cache_schema.upkeep.pins import unpin
    from pipelines.store_report import print_line

    unpin(read_root(store), name)
    print_line(f"{store}: {name} is gone")


@life_app.command("pins")
def store_pins(store: Store, as_json: AsJson = False) -> None:
    """List the pins of a store."""
    from dataclasses import asdict

    from cache_schema.store_root import read_root
    from cache_schema.upkeep.pins import read_pins
    from pipelines.store_report import print_json, print_lines

    pins = read_pins(read_root(store).storage)
    if as_json:
        print_json([asdict(pin) for pin in pins])
    else:
        print_lines(f"{p.name:20} version {p.version:<6} {p.created} {p.note}" for p in pins)


def seconds_of(text: str) -> float:
    """Returns the seconds that ``7d``, ``12h``, ``30m`` or ``45s`` mean.

    Raises:
        InputError: it is something else.
    """
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise InputError(f"{text!r} is no age: give a number and s, m, h or d, as in 7d.")
    return int(found[1]) * _SECONDS[found[2]]


def _with_lost_clips(
    store: str, report: "RepairReport", videos: Path, encoder: "EncoderFiles", *, drop: bool
) -> "RepairReport":
    """Extracts the clips that a first repair has left, and repairs again with them as the source."""
    import shutil
    from dataclasses import replace

    from cache_schema import open_store
    from cache_schema.upkeep.repair import repair_store
    from extract.progress import progress_for
    from pipelines.lost_clips import extract_lost, extraction_of_lost

    opened = open_store(store)
    lost = sorted(
        {clip for item in report.left for clip in item.clip_ids}.intersection(opened.clip_ids)
    )
    target = f"{store.rstrip('/')}.lost"
    source = None
    if lost:
        job = extraction_of_lost(opened, lost, videos, encoder)
        tally = extract_lost(job, target, progress_for(sys.stderr))
        source = target if tally.ok + tally.skipped else None
    second = repair_store(store, source=source, drop=drop)
    if source is not None and not second.left and "://" not in target:
        # Its features are in the store now, under the same identity.
        shutil.rmtree(target)
    return replace(second, done=(*report.done, *second.done))
