"""What the commands that import and convert stores print: lines for people, JSON for programs."""

from cache_schema.exchange.store_convert import ConversionPlan, ConversionReport
from cache_schema.exchange.store_import import ImportPlan, ImportReport
from pipelines.store_report import print_json, print_line, print_lines, shown_bytes

_SHOWN = 20


def print_import_plan(plan: ImportPlan, *, as_json: bool) -> None:
    """Prints what an import would do, and what is unknown of the features."""
    identity = plan.identity
    if as_json:
        print_json(
            {
                "clips": plan.clips,
                "pending": len(plan.pending),
                "bytes_needed": plan.bytes_needed,
                "refused": dict(plan.refused),
                "identity": identity.to_json(),
                "unknown": list(identity.unknown),
            }
        )
        return
    print_lines(
        [
            (
                f"{len(plan.pending)} of {plan.clips} clips to import, "
                f"{shown_bytes(plan.bytes_needed)}; {identity.frames} frames of "
                f"{identity.patches} patches, width {identity.dim}"
            ),
            f"unknown: {', '.join(identity.unknown) or 'nothing'}",
            *(f"not a clip: {name}: {why}" for name, why in list(plan.refused.items())[:_SHOWN]),
        ]
    )


def print_import(
    store: str, unknown: tuple[str, ...], report: ImportReport, *, as_json: bool
) -> None:
    """Prints what an import did: counts, what is unknown, and what was left out with its reason."""
    rounding = report.rounding
    if as_json:
        print_json(
            {
                "store": store,
                "imported": report.imported,
                "skipped": report.skipped,
                "failed": {o.clip_id: f"{o.reason}: {o.detail}" for o in report.failures},
                "refused": dict(report.refused),
                "unknown": list(unknown),
                "rounding_to_float16": rounding.report() if rounding else None,
            }
        )
        return
    failed = [f"failed: {o.clip_id}: {o.reason}: {o.detail}" for o in report.failures]
    refused = [f"not a clip: {name}: {why}" for name, why in report.refused.items()]
    hidden = len(failed) + len(refused) - _SHOWN
    print_lines(
        [
            (
                f"{store}: {report.imported} clips imported, {len(failed)} failed, "
                f"{report.skipped} skipped, {len(refused)} not clips"
            ),
            *([f"rounding to float16: at most {rounding.max_abs:.3g}"] if rounding else []),
            f"unknown: {', '.join(unknown) or 'nothing'}",
            *[*failed, *refused][:_SHOWN],
            *([f"... and {hidden} more; --json lists all"] if hidden > 0 else []),
        ]
    )


def print_conversion(
    target: str, plan: ConversionPlan, report: ConversionReport | None, *, as_json: bool
) -> None:
    """Prints what a conversion did, or without a report would do: sizes and the measured loss."""
    loss = report.loss if report else None
    if as_json:
        print_json(
            {
                "store": target,
                "identity": plan.identity.to_json(),
                "digest": plan.identity.digest,
                "clips": plan.clips,
                "pending": len(plan.pending) if report is None else 0,
                "converted": report.converted if report else 0,
                "skipped": report.skipped if report else plan.clips - len(plan.pending),
                "source_bytes": plan.source_bytes,
                "bytes": plan.target_bytes,
                "loss": loss.report() if loss else None,
            }
        )
        return
    sizes = f"{shown_bytes(plan.source_bytes)} become {shown_bytes(plan.target_bytes)}"
    if report is None:
        what = f"{len(plan.pending)} of {plan.clips} clips to convert"
        print_line(f"{target}: {plan.identity.variant}: {what}; {sizes}")
        return
    done = f"{report.converted} clips converted, {report.skipped} skipped"
    print_line(f"{target}: {plan.identity.variant}: {done}; {sizes}")
    if loss is not None:
        print_line(
            f"loss: at most {loss.max_abs:.3g}, relative {loss.relative:.2%}, cosine "
            f"{loss.mean_cosine:.5f} on average, {loss.min_cosine:.5f} at worst"
        )
