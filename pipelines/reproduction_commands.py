"""The command `videodistill reproduce`: the paper's claims, measured on the demo."""

import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

RESULTS = Path("docs/results")


def reproduce(
    groups: Annotated[
        list[str] | None,
        typer.Argument(help="Groups of claims, as in 'LA-Gate'; all, if none is named."),
    ] = None,
    home: Annotated[
        Path, typer.Option(help="Folder that holds data/, stores/ and runs/.", file_okay=False)
    ] = Path(),
    claims_file: Annotated[
        Path | None,
        typer.Option("--claims", help="Arms and claims of your own, in place of the paper's."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds of every arm; by default what each arm says.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side, each on one thread.")] = 2,
    results: Annotated[Path, typer.Option(help="Folder of the result page.")] = RESULTS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print claims and runs; train nothing.")
    ] = False,
) -> None:
    """Train every arm of the paper's claims on the demo, and write which of them hold.

    Extract demo, demo-choices and demo-captions before (`videodistill extract demo`, ...); `make
    reproduce` does all of it. Runs that are complete are kept: stop it when you like, and go on later.
    About three hours on two cores. With groups named, the page is of these alone, and its name says so.
    """
    from pipelines.reproduction.arms import ArmRun, run_arms
    from pipelines.reproduction.claims import SHIPPED, read_study
    from pipelines.reproduction.page import page
    from pipelines.run_record import read_run
    from pipelines.summary import provenance

    study = read_study(claims_file or SHIPPED)
    arms = study.needed(groups or [])
    claims = study.chosen(groups or [])
    if dry_run:
        for claim in claims:
            typer.echo(f"{claim.group}: {claim.text} ({claim.source})")
        for arm in arms:
            typer.echo(
                f"  {arm.name}: {seeds or arm.seeds} seeds on {arm.dataset}, {study.differs(arm)}"
            )
        return
    folder = home / "runs" / "reproduction"
    found = run_arms(arms, home=home, folder=folder, seeds=seeds, jobs=jobs, say=typer.echo)
    identity = ArmRun(arm=arms[0], seed=1, home=home, folder=folder).experiment().store().identity
    about = provenance(identity, 1, " ".join(["videodistill reproduce", *map(repr, groups or [])]))
    runs = [
        read_run(folder / arm.run_name(1 + n)) for arm in arms for n in range(len(found[arm.name]))
    ]
    about["hours_in_steps"] = round(sum(run.seconds for run in runs) / 3600, 2)
    date = datetime.now(UTC).date().isoformat()
    # A page of some groups is not to stand where that of all claims does.
    about_groups = [re.sub(r"\W+", "-", name.lower()) for name in dict.fromkeys(groups or [])]
    name = "_".join(["reproduction", platform.machine(), date, *about_groups])
    path = results / f"{name}.md"
    results.mkdir(parents=True, exist_ok=True)
    path.write_text(page(study, claims, found, about), encoding="utf-8")
    figures = json.dumps({"about": about, "figures": found}, indent=2)
    path.with_suffix(".json").write_text(figures + "\n", encoding="utf-8")
    typer.echo(f"reproduce: written to {path}")
