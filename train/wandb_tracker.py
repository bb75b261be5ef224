"""The curves for Weights & Biases as well: where it is installed, and only where it is asked for."""

import importlib
import json
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

PROJECT: Final = "WANDB_PROJECT"
MODE: Final = "WANDB_MODE"
RUN_ID_FILE: Final = "wandb-run-id"

_LOG = logging.getLogger(__name__)


class Tracker(Protocol):
    """What curves need of a W&B run."""

    def define_metric(self, name: str, *, step_metric: str) -> object:
        """Name what a number is drawn over."""

    def log(self, data: Mapping[str, float]) -> None:
        """Record numbers."""

    def finish(self, exit_code: int) -> None:
        """Close the run; 0 says that it ended well."""


def start_tracker(run_dir: Path) -> Tracker | None:
    """Open a W&B run if the environment names its project in `WANDB_PROJECT`; otherwise None.

    Nothing leaves the machine unless `WANDB_MODE=online` says so: by default the run is kept in
    `<run_dir>/wandb`, and `wandb sync` sends it. A tracker that cannot be had costs a warning, never
    the training. A run that goes on keeps its W&B id.
    """
    project = os.environ.get(PROJECT)
    if not project:
        return None
    try:
        wandb: Any = importlib.import_module("wandb")
    except ModuleNotFoundError:
        _LOG.warning(
            "%s is set, but wandb is not installed (pip install 'videodistill-cache[wandb]'); the curves "
            "go to %s only",
            PROJECT,
            run_dir,
        )
        return None
    try:
        tracker: Tracker = wandb.init(
            project=project,
            id=_run_id(run_dir),
            resume="allow",
            name="/".join(run_dir.resolve().parts[-2:]),
            dir=str(run_dir),
            config=_config(run_dir),
            mode=os.environ.get(MODE, "offline"),
        )
    except wandb.errors.Error as error:
        _LOG.warning("W&B cannot be used (%s); the curves go to %s only", error, run_dir)
        return None
    # A resumed run may log steps again that were lost; W&B's own counter can only rise.
    tracker.define_metric("*", step_metric="step")
    return tracker


def _run_id(run_dir: Path) -> str:
    """The id that this run folder has, made when it is first asked for."""
    path = run_dir / RUN_ID_FILE
    if not path.is_file():
        path.write_text(secrets.token_hex(4))
    return path.read_text()


def _config(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "config.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
