"""Options of extraction: what is encoded how, where videos may lie, who decodes and schedules."""

from pathlib import Path
from typing import Annotated

import typer

DecoderName = Annotated[
    str,
    typer.Option(
        "--backend",
        help="Decoder to try first: pyav, decord or torchcodec. The frames are the same.",
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, as tcp://host:8786.")
]
AllowRoots = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow-root",
        help="A further folder into which links below the data set may lead. Repeatable.",
        exists=True,
        file_okay=False,
    ),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Let links below the data set lead anywhere.")
]
Tag = Annotated[
    str | None,
    typer.Option(
        help="Which published weights the file holds (`encoders info MODEL` lists them), or own."
    ),
]
TokenSpace = Annotated[
    str,
    typer.Option(help="joint: projected, as wide as a sentence; trunk: the tower's width."),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the text tower's tokenizer, where it is not CLIP's (SigLIP).",
        exists=True,
        file_okay=False,
    ),
]
Pool = Annotated[
    str | None,
    typer.Option(help="Keep a coarser grid of patches, as in 4x4: a lossy variant, measured."),
]
