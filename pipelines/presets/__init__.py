"""Named runs as TOML files: which models a data set is trained with, and how."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cache_schema.errors import InputError
from pipelines.datasets.dataset import Dataset
from train.config import TrainConfig

PRESETS: Final = Path(__file__).parent
MAIN_RUN: Final = "videodistill"
"""The run that a data set's preset is about; the others are its rivals."""
INHERITED: Final = "data set"
"""The only value of `inherits`: the preset that the data set has."""
_KEYS: Final = frozenset({"inherits", "per_store", "train", "runs"})

PRETRAINING: Final = "pretraining"
"""The preset that pretrains on the captions of a data set whose own runs answer questions."""

Tree = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """The runs of one file, and where they belong."""

    runs: Mapping[str, TrainConfig]
    """Run name -> configuration, in the file's order."""
    folder: str
    """The folder of these runs below the data set's; empty for its own preset, whose runs lie there."""
    per_store: bool
    """Whether each feature store has a folder of runs: the file is about what stores differ in."""

    @property
    def main_run(self) -> str:
        """The run that a report shows the frames of."""
        return MAIN_RUN if MAIN_RUN in self.runs else next(iter(self.runs))


def own_preset(dataset: Dataset) -> str:
    """The name of a data set's preset: its own name, or its folder's where it shares one."""
    shipped = PRESETS / f"{dataset.name}.toml"
    return dataset.name if shipped.is_file() else dataset.folder


def pretraining_preset(dataset: Dataset) -> str:
    """The name of the preset that pretrains on a data set: its own where it has captions alone."""
    return own_preset(dataset) if dataset.task in {"captions", "retrieval"} else PRETRAINING


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


def read_preset(path: Path, overrides: list[str], seed: int, *, own: str | None = None) -> Preset:
    """Read a preset file.

    A file with `inherits = "data set"` says only what its runs change of the data set's main run, so
    that one file serves every data set. Its runs get a folder of their own, named after the file.

    Args:
        path: TOML with a table `train` of shared options and a table `runs.<name>` per run.
        overrides: `key=value` lines applied to every run, as in `model.selected=16`.
        seed: Training seed of every run that does not set its own.
        own: Name of the data set's preset, for files that inherit.

    Raises:
        InputError: The file is not TOML, has no runs, sets an option that does not exist, or inherits
            where there is nothing to inherit.
    """
    tree = _read_tree(path)
    shared = merged({"seed": seed}, tree.get("train", {}))
    inherits = "inherits" in tree
    if inherits:
        shared = merged(_inherited(path, tree, own, seed), tree.get("train", {}))
    changes = _parse_overrides(overrides)
    return Preset(
        runs={
            name: TrainConfig.from_dict(merged(merged(shared, options), changes))
            for name, options in tree["runs"].items()
        },
        folder=path.stem if inherits else "",
        per_store=_is_per_store(path, tree),
    )


def changed(config: TrainConfig, overrides: list[str]) -> TrainConfig:
    """A configuration with `key=value` lines applied.

    Raises:
        InputError: An option does not exist, or cannot have the value.
    """
    return TrainConfig.from_dict(merged(config.to_dict(), _parse_overrides(overrides)))


def _read_tree(path: Path) -> Tree:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    unknown = sorted(tree.keys() - _KEYS)
    if unknown or not tree.get("runs"):
        problem = f"has unknown tables {unknown}" if unknown else "names no runs"
        raise InputError(f"{path} {problem}; it wants [train] and at least one [runs.<name>].")
    return tree


def _inherited(path: Path, tree: Tree, own: str | None, seed: int) -> Tree:
    """All options of the data set's main run."""
    if tree["inherits"] != INHERITED:
        raise InputError(
            f"{path}: inherits is {tree['inherits']!r}; the only choice is {INHERITED!r}."
        )
    if own is None:
        raise InputError(f"{path} inherits from a data set's preset; name the data set.")
    below = preset_path(own)
    if "inherits" in _read_tree(below):
        raise InputError(f"{path} inherits from {below}, which inherits itself.")
    preset = read_preset(below, [], seed)
    if path.stem in preset.runs:
        raise InputError(
            f"{path}: {below} has a run {path.stem!r} already, whose folder these runs would get; "
            "give the file another name."
        )
    return preset.runs[preset.main_run].to_dict()


def _is_per_store(path: Path, tree: Tree) -> bool:
    value = tree.get("per_store", False)
    if not isinstance(value, bool) or (value and "inherits" not in tree):
        raise InputError(
            f"{path}: per_store is {value!r}; it is true or false, and goes with inherits."
        )
    return value


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
        changes = merged(changes, parsed)
    return changes


def _nested(keys: list[str], value: str) -> Tree:
    return {keys[0]: _nested(keys[1:], value) if len(keys) > 1 else value}


def dotted(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of options as one level: `model.selected` -> value, as `--set` names them."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Tree:
    """Two trees as one: `over` wins, table by table."""
    tree = dict(under)
    for key, value in over.items():
        below = tree.get(key)
        nested = isinstance(below, Mapping) and isinstance(value, Mapping)
        tree[key] = merged(below, value) if nested else value  # type: ignore[arg-type]
    return tree
