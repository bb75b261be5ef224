"""What the store commands print: tables and lines for people, plain JSON for programs."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cache_schema.identity import FeatureIdentity
from cache_schema.sharing.copy_plan import CopyPlan
from cache_schema.sharing.recipe_check import RecipeCheck
from cache_schema.sharing.store_copy import CopyReport
from cache_schema.sharing.store_difference import ClipDifference, StoreDifference
from cache_schema.sharing.store_listing import ListedStore, StoreInfo
from cache_schema.upkeep.verify import Finding

_SHOWN = 20


def print_json(document: object) -> None:
    """Prints one JSON document."""
    print_line(json.dumps(document, indent=2))


def print_line(line: str) -> None:
    """Prints a line as it is."""
    typer.echo(line)


def print_lines(lines: Iterable[str]) -> None:
    """Prints lines as they are."""
    for line in lines:
        print_line(line)


def print_listing(stores: Iterable[ListedStore], folder: Path) -> None:
    """Prints a table of stores, with what is wrong with some of them below."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("store", overflow="fold")
    for name in ("encoder", "N P D"):
        table.add_column(name)
    for name in ("clips", "failed", "version", "size"):
        table.add_column(name, justify="right")
    table.add_column("health")
    remarks = []
    for store in stores:
        name = _below(store.location, folder)
        table.add_row(Text(name), *map(Text, _cells(store.info)), Text(store.health))
        if store.detail:
            remarks.append(f"{name}: {store.health}: {store.detail}")
    Console().print(table)
    print_lines(remarks)


def print_info(info: StoreInfo) -> None:
    """Prints a store's description."""
    identity = info.identity
    preprocess = identity.to_json()["preprocess"]
    if isinstance(preprocess, Mapping):
        preprocess = ", ".join(f"{name} {value}" for name, value in preprocess.items())
    variant = f", {identity.variant}" if identity.variant else ""
    pinned = ", ".join(f"{version} as {name}" for name, version in info.pins.items())
    pins = f"; pinned: {pinned}" if pinned else ""
    rows = {
        "store": info.location,
        "name": identity.name,
        "digest": identity.digest,
        "encoder": f"{identity.encoder}, weights {identity.weights_sha256[:12]}..., "
        f"{_gelu(identity)}, {identity.precision}",
        "features": f"{identity.frames} frames x (1 + {identity.patches}) tokens x {identity.dim}, "
        f"{identity.token_space} space, {identity.dtype}{variant}",
        "source": f"{identity.source} {identity.origin}".strip(),
        "frames": identity.frame_policy,
        "preprocess": str(preprocess),
        "format": f"{info.format}, blocks of {info.block_slots} clips, segments of "
        f"{info.segment_slots}",
        "created": info.created,
        "version": f"{info.version} of {info.newest_version}{pins}",
        "clips": f"{info.clips}, of fewer than {identity.frames} different frames: "
        f"{info.short_clips}",
        "failed": _counted(info.failures) if info.failures else "0",
        "flags": _counted(info.flags) if info.flags else "none",
        "decoders": _counted(info.backends) if info.backends else "none",
        "size": f"{shown_bytes(info.bytes)} in {info.files} files",
    }
    if info.loss is not None:
        rows["loss"] = (
            f"mean cosine {info.loss.mean_cosine:.6f}, least {info.loss.min_cosine:.6f}, largest "
            f"difference {info.loss.max_abs:.3g}"
        )
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value))
    Console().print(table)


def print_findings(location: str, findings: list[Finding]) -> None:
    """Prints what a check has found, and the verdict."""
    wrong = sum(finding.severity != "notice" for finding in findings)
    verdict = f"{wrong} findings" if wrong else "sound"
    last = f"{location}: {verdict}, {len(findings) - wrong} notices"
    print_lines([*map(str, findings), last])


def print_difference(difference: StoreDifference) -> None:
    """Prints how two stores differ, and the verdict."""
    print_lines(f"identity: {line}" for line in difference.identity)
    for name, clips in (("A", difference.only_a), ("B", difference.only_b)):
        if clips:
            print_line(f"only in {name}: {len(clips)} clips: {_some(clips)}")
    if difference.differing:
        # Those that were measured first: with a sample, most are not.
        listed = sorted(difference.differing, key=lambda clip: clip.cls is None)
        Console().print(_difference_table(listed[:_SHOWN]))
        if len(listed) > _SHOWN:
            print_line(f"... and {len(listed) - _SHOWN} more; --json lists all")
    verdict = "equal" if difference.equal else "different"
    print_line(f"{verdict}: {difference.same} clips the same, {len(difference.differing)} not")


def print_plan(plan: CopyPlan) -> None:
    """Prints what a copy would do."""
    free = "" if plan.bytes_free is None else f", {shown_bytes(plan.bytes_free)} free"
    print_line(
        f"{len(plan.take)} clips to copy, {len(plan.present)} there already; "
        f"{shown_bytes(plan.bytes_needed)} needed{free}"
    )
    if plan.missing:
        print_line(f"{len(plan.missing)} clips are in no source: {_some(plan.missing)}")
    print_lines(f"conflict: {conflict}" for conflict in plan.conflicts[:_SHOWN])


def print_copy(report: CopyReport, target: str) -> None:
    """Prints what a copy has done, and what it could not do."""
    if report.missing:
        print_line(f"{len(report.missing)} clips are in no source: {_some(report.missing)}")
    print_lines(f"damaged: {clip.clip_id}: {clip.message}" for clip in report.damaged)
    print_lines(f"conflict: {conflict}" for conflict in report.conflicts[:_SHOWN])
    if report.left:
        print_line(f"{len(report.left)} clips are left to do: {_some(report.left)}")
    print_line(
        f"{target}: {len(report.copied)} clips and {len(report.failed)} failures copied, "
        f"{report.present} were there; manifest version {report.version}"
    )


def print_check(check: RecipeCheck) -> None:
    """Prints how a store differs from a recipe: other videos first, for they explain the rest."""
    listed = {
        "other videos than the recipe's": check.other_videos,
        "cut otherwise from their videos": check.other_bounds,
        "without features here": check.missing,
        "with features here, failed in the recipe": check.unexpected,
    }
    print_lines(f"identity: {line}" for line in check.identity)
    print_lines(f"{len(ids)} clips {what}: {_some(ids)}" for what, ids in listed.items() if ids)
    print_lines(
        f"other bytes: {clip.clip_id}: {' and '.join(clip.arrays)}; decoded with {clip.backends[0]} "
        f"for the recipe, {clip.backends[1]} here"
        for clip in check.other_bytes[:_SHOWN]
    )
    if len(check.other_bytes) > _SHOWN:
        print_line(f"... and {len(check.other_bytes) - _SHOWN} more; --json lists all")
    verdict = "the same" if check.same else "not the same"
    print_line(
        f"{verdict}: {check.equal} clips equal, {len(check.other_bytes)} with other bytes, "
        f"{check.extra} beyond the recipe"
    )


def shown_bytes(size: int) -> str:
    """Returns a size for people, in units of 1000."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _gelu(identity: FeatureIdentity) -> str:
    if identity.quick_gelu == "unknown":
        return "activation unknown"
    return "QuickGELU" if identity.quick_gelu else "GELU"


def _cells(info: StoreInfo | None) -> tuple[str, ...]:
    if info is None:
        return ("",) * 6
    identity = info.identity
    shape = f"{identity.frames} {identity.patches} {identity.dim}"
    counts = f"{info.clips}", f"{info.failed}", f"{info.version}"
    return identity.encoder, shape, *counts, shown_bytes(info.bytes)


def _below(location: str, folder: Path) -> str:
    path = Path(location)
    return path.relative_to(folder).as_posix() if path != folder else location


def _difference_table(differences: Iterable[ClipDifference]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("clip")
    for array in ("CLS", "patch"):
        table.add_column(f"{array} max abs", justify="right")
        table.add_column("cosine min / mean", justify="right")
    table.add_column("frame times", justify="right")
    table.add_column("why")
    for clip in differences:
        cells = []
        for tokens in (clip.cls, clip.patch):
            if tokens is None:
                cells.extend(["", ""])
            else:
                cosines = f"{tokens.cosine_min:.6f} / {tokens.cosine_mean:.6f}"
                cells.extend([f"{tokens.max_abs:.3g}", cosines])
        cells.append("unlike" if clip.time_max_abs is None else f"{clip.time_max_abs:.3g} s")
        why = "other video" if clip.source_differs else ""
        if not why and clip.backends[0] != clip.backends[1]:
            why = " / ".join(clip.backends)
        table.add_row(Text(clip.clip_id), *cells, Text(why))
    return table


def _counted(counts: Mapping[str, int]) -> str:
    listed = list(counts.items())
    lines = [f"{count} x {name or 'not recorded'}" for name, count in listed[:_SHOWN]]
    if len(listed) > _SHOWN:
        lines.append(f"... and {len(listed) - _SHOWN} more")
    return "\n".join(lines)


def _some(clip_ids: Iterable[str]) -> str:
    listed = list(clip_ids)
    return ", ".join(listed[:5]) + (", ..." if len(listed) > 5 else "")
