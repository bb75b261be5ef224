"""The command `videodistill ask`: one's own questions to a trained run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pipelines.data_commands import Home, Json
from pipelines.extract_options import ModelConfig, Tag, Tokenizer
from pipelines.training_commands import Weights


def ask(
    run: Annotated[
        Path, typer.Argument(help="Folder of a trained run, as runs/demo/videodistill.")
    ],
    clip: Annotated[str, typer.Argument(help="A clip of the store, as test-0000.")],
    questions: Annotated[list[str], typer.Argument(help="One or more questions about it.")],
    choices: Annotated[
        list[str] | None,
        typer.Option(
            "--choice", help="What a run with a matching head chooses from; twice or more often."
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Path or URL of the feature store; by default found by the run's identity."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Answers that are told.")] = 3,
    home: Home = Path(),
    weights: Weights = None,
    model_config: ModelConfig = None,
    tag: Tag = None,
    tokenizer: Tokenizer = None,
    as_json: Json = False,
) -> None:
    """Ask a run about a clip: its likeliest answers, and when in the video it looked.

    Reads all CLS features of the clip and the patches of the frames that it chooses. The question is
    read by the text tower of the encoder that made the store: the demo's is found by itself, others
    are named by --weights.
    """
    from pipelines import asking
    from pipelines.encoders import EncoderFiles

    encoder = EncoderFiles(
        weights=weights, model_config=model_config, pretrained_tag=tag, tokenizer=tokenizer
    )
    found = asking.ask(
        run,
        clip,
        questions,
        choices=choices or (),
        store=store,
        home=home,
        encoder=encoder,
        top=top,
    )
    if as_json:
        typer.echo(json.dumps([asked.to_dict() for asked in found], indent=2))
        return
    for asked in found:
        typer.echo(asked.question)
        for answer, share in asked.answers:
            typer.echo(f"  {share:6.1%}  {answer}")
        if asked.frame_times_s:
            times = ", ".join(f"{time:.1f}" for time in asked.frame_times_s)
            typer.echo(f"  looked at {times} s")
