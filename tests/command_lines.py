"""Command lines as a page shows them: what is wrong with one is told without running it."""

import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import typer

from pipelines.cli import app
from pipelines.datasets.registry import find
from pipelines.presets import changed, preset_path
from train.config import TrainConfig

ROOT = Path(__file__).parents[1]
UsageError: Any = typer.BadParameter.__base__


@cache
def require_valid(line: str) -> None:
    """Parse a line that begins with `make` or `videodistill`; names in capitals stand for anything.

    Raises:
        ValueError: there is no such target, command, argument or option.
        InputError: there is no such data set, preset, or option of a run.
    """
    program, *words = shlex.split(line)
    match program:
        case "videodistill":
            _require_command(words)
        case "make":
            for recipe in _recipes(words):
                require_valid(recipe)
        case _:
            raise ValueError(f"{line!r} begins with neither make nor videodistill")


def _recipes(words: list[str]) -> list[str]:
    """What make would run of our program."""
    made = subprocess.run(
        ["make", "--dry-run", "VENV=V", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise ValueError(made.stderr)
    lines = made.stdout.splitlines()
    return [line.removeprefix("V/bin/") for line in lines if line.startswith("V/bin/videodistill")]


def _require_command(words: list[str]) -> None:
    leaf: Any = typer.main.get_command(app)
    while hasattr(leaf, "commands"):
        if not words or words[0] not in leaf.commands:
            raise ValueError(f"there is no command {words[:1]} of {leaf.name}")
        leaf, words = leaf.commands[words[0]], words[1:]
    try:
        values, extra, _ = leaf.make_parser(leaf.context_class(leaf)).parse_args(words)
    except UsageError as error:
        raise ValueError(f"{leaf.name}: {error}") from error
    lacking = [p.name for p in leaf.params if p.required and not values.get(p.name)]
    if extra or lacking:
        raise ValueError(f"{leaf.name}: {extra} is too much, {lacking} is not there")
    dataset, preset = values.get("dataset") or "", values.get("preset") or ""
    if dataset.islower():
        find(dataset)
    if preset and not preset.endswith(".toml"):
        preset_path(preset)
    if leaf.name in {"train", "pretrain", "evaluate", "report"}:
        changed(TrainConfig(), values.get("overrides") or [])
