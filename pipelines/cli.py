"""The command line `videodistill`: parses, calls one step, prints; the only place of its kind."""

import errno
import logging
import os
import sys

import typer

from cache_schema.errors import VideoDistillError
from pipelines.ask_commands import ask
from pipelines.data_commands import data_app
from pipelines.demo_commands import demo, demo_encoder
from pipelines.encoder_commands import encoders_app
from pipelines.extract_commands import extract
from pipelines.frames_commands import frames
from pipelines.reproduction_commands import reproduce
from pipelines.run_commands import runs_app
from pipelines.score_commands import score, table
from pipelines.store_commands import store_app
from pipelines.store_exchange_commands import exchange_app
from pipelines.store_life_commands import life_app
from pipelines.store_sharing_commands import sharing_app
from pipelines.training_commands import evaluate, pretrain, report, train

app = typer.Typer(
    name="videodistill",
    help="Frozen CLIP once per video, then cheap experiments: VideoDistill as a two-stage feature cache.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(store_app, name="store")
app.add_typer(encoders_app, name="encoders")
app.add_typer(runs_app, name="runs")
app.command()(extract)
app.command()(frames)
app.command()(reproduce)
app.command()(train)
app.command()(pretrain)
app.command()(evaluate)
app.command()(ask)
app.command()(report)
app.command()(score)
app.command()(table)
app.command()(demo)
app.command("demo-encoder")(demo_encoder)
store_app.add_typer(sharing_app)
store_app.add_typer(exchange_app)
store_app.add_typer(life_app)

INTERRUPTED = 130
_MACHINE_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE}


def main() -> None:
    """Entry point: errors that we raise on purpose are one message and an exit code, no traceback."""
    # Read when torch loads. Threads that wait for work then sleep instead of spinning, which costs
    # little alone and saves a factor beside other jobs on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Where there is no terminal, extraction tells its progress to this log.
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("extract").setLevel(logging.INFO)
    try:
        app()
    except VideoDistillError as error:
        typer.echo(f"videodistill: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _MACHINE_FAULTS:
            raise
        where = f" ({error.filename})" if error.filename else ""
        what = (
            f"{error.strerror}{where}. What was done is kept; mend that, and run the command again"
        )
        typer.echo(f"videodistill: {what}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("videodistill: interrupted; the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
