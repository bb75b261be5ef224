"""Named runs as TOML files: which models a data set is trained with, and how."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cache_schema.errors import InputError
from train.config import TrainConfig

PRESETS = Path(__file__).parent
Tree = dict[str, Any]


def preset_path(name: str) -> Path:
    """The file of a preset that ships with the project, or the path itself if it is one.

    Raises:
        InputError: Neither exists; the message lists the shipped ones.
    """
    shipped = PRESETS / f"{name}.toml"
    for path in (shipped, Path(name)):
        if path.is_file():
            return path
    known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.toml")))
    raise InputError(f"There is no preset {name!r}: give a TOML file, or one of: {known}.")


def read_runs(path: Path, overrides: list[str], seed: int) -> dict[str, TrainConfig]:
    """The runs of a preset file, in its order.

    Args:
        path: TOML with a table `train` of shared options and a table `runs.<name>` per run.
        overrides: `key=value` lines applied to every run, as in `model.selected=16`.
        seed: Training seed of every run that does not set its own.

    Raises:
        InputError: The file is not TOML, has no runs, or sets an option that does not exist.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    unknown = sorted(tree.keys() - {"train", "runs"})
    if unknown or not tree.get("runs"):
        problem = f"has unknown tables {unknown}" if unknown else "names no runs"
        raise InputError(f"{path} {problem}; it wants [train] and at least one [runs.<name>].")
    shared = _merge({"seed": seed}, tree.get("train", {}))
    changes = _parse_overrides(overrides)
    return {
        name: TrainConfig.from_dict(_merge(_merge(shared, own), changes))
        for name, own in tree["runs"].items()
    }


def _parse_overrides(overrides: list[str]) -> Tree:
    """`a.b=3` means what TOML says it means; a bare word is a string."""
    changes = Tree()
    for line in overrides:
        key, equals, value = line.partition("=")
        if not equals:
            raise InputError(f"--set wants key=value, found {line!r}.")
        try:
            parsed = tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            parsed = _nested(key.strip().split("."), value.strip())
        changes = _merge(changes, parsed)
    return changes


def _nested(keys: list[str], value: str) -> Tree:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """`over` wins, table by table."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        nested = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(below, value) if nested else value  # type: ignore[arg-type]
    return merged
