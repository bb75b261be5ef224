"""The commands `videodistill encoders ...`: which frozen encoders there are, and what they cost."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from pipelines.encoder_catalogue import EncoderFacts, PublishedWeights

encoders_app = typer.Typer(
    help="Which frozen encoders can be used, and what they cost on disk.", no_args_is_help=True
)

# Not a table that shrinks with the terminal: the names are there to be copied.
_FORM: Final = "{:34} {:>4} {:>7} {:>7} {:>6} {:>7} {:>6}  {}"
_HEADINGS: Final = ("model", "px", "patches", "joint D", "GB", "trunk D", "GB", "CLS place")

Frames = Annotated[int, typer.Option(min=1, help="N, frames of a clip, for the size of a store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@encoders_app.command("ls")
def encoders_ls(
    unsupported: Annotated[
        bool, typer.Option("--unsupported", help="List the models that are refused, and why.")
    ] = False,
    frames: Frames = 100,
    as_json: AsJson = False,
) -> None:
    """List open_clip's models that have a grid of patch tokens, with the size of their stores.

    Sizes are GB of a store of 1,000 clips, CLS and all patches, in the joint and the trunk space.
    """
    import json

    from pipelines.encoder_catalogue import EncoderFacts, catalogue

    entries = catalogue(frames)
    if as_json:
        kept = [entry for entry in entries if isinstance(entry, EncoderFacts) is not unsupported]
        shown = [e.to_json() if isinstance(e, EncoderFacts) else e._asdict() for e in kept]
        typer.echo(json.dumps(shown, indent=2))
        return
    if not unsupported:
        typer.echo(_FORM.format(*_HEADINGS))
    supported = refused = 0
    # Line by line: the sizes of timm's towers take seconds to find out.
    for entry in entries:
        if isinstance(entry, EncoderFacts):
            supported += 1
            if not unsupported:
                typer.echo(_row(entry))
        else:
            refused += 1
            if unsupported:
                # Behind the first sentence stands what is supported instead, the same for all.
                typer.echo(entry.reason.partition(". Supported are")[0])
    typer.echo(
        f"{supported} models, {refused} refused (--unsupported lists them); GB: a store of 1,000 "
        f"clips of {frames} frames."
    )


@encoders_app.command("info")
def encoders_info(
    model: Annotated[str, typer.Argument(help="open_clip's name of the model, as ViT-B-16.")],
    frames: Frames = 100,
    as_json: AsJson = False,
) -> None:
    """Show one model: its tokens, pictures, sentences, store size, and published weights."""
    import json
    from dataclasses import asdict

    from pipelines.encoder_catalogue import facts_of, weights_of

    facts, weights = facts_of(model, frames), weights_of(model)
    if as_json:
        document = {**facts.to_json(), "weights": [asdict(entry) for entry in weights]}
        typer.echo(json.dumps(document, indent=2))
        return
    for name, value in _lines(facts):
        typer.echo(f"{name:12} {value}")
    _print_weights(facts, weights)


def _lines(facts: "EncoderFacts") -> list[tuple[str, str]]:
    where = f"per 1,000 clips of {facts.frames} frames"
    joint = "patches have no place in it: use --token-space trunk"
    if facts.joint_dim is not None and facts.joint_bytes is not None:
        joint = f"{facts.joint_dim} numbers a token, {facts.joint_bytes / 1e9:.2f} GB {where}"
    return [
        ("model", facts.model),
        ("family", f"{facts.family}; in the CLS place: {facts.pooled}"),
        ("pictures", f"{facts.image_size} x {facts.image_size}, {facts.grid} patches"),
        ("joint space", joint),
        (
            "trunk space",
            f"{facts.trunk_dim} numbers a token, {facts.trunk_bytes / 1e9:.2f} GB {where}",
        ),
        ("activation", "QuickGELU" if facts.quick_gelu else "GELU"),
        ("sentences", f"{facts.context_length} tokens; tokenizer: {facts.tokenizer}"),
    ]


def _print_weights(facts: "EncoderFacts", weights: list["PublishedWeights"]) -> None:
    if not weights:
        typer.echo("weights      open_clip knows none")
        return
    typer.echo("weights      published, by the tag to name with --tag:")
    for entry in (entry for entry in weights if entry.fits):
        typer.echo(f"  {entry.tag:28} {entry.preprocess}\n{'':31}{entry.where}")
    others = [entry.tag for entry in weights if not entry.fits]
    if others:
        trained = "without" if facts.quick_gelu else "with"
        typer.echo(f"  not of this model, trained {trained} QuickGELU: {', '.join(others)}")


def _row(facts: "EncoderFacts") -> str:
    return _FORM.format(
        facts.model,
        facts.image_size,
        facts.patches,
        facts.joint_dim or "-",
        "-" if facts.joint_bytes is None else f"{facts.joint_bytes / 1e9:.1f}",
        facts.trunk_dim,
        f"{facts.trunk_bytes / 1e9:.1f}",
        facts.pooled,
    )
