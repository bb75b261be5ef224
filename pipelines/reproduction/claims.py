"""What is claimed, and between which arms it is measured: `claims.toml`, checked."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from cache_schema.errors import InputError
from pipelines.presets import dotted, merged
from pipelines.reproduction.interval import Interval
from train.config import TrainConfig

SHIPPED: Final = Path(__file__).with_name("claims.toml")
DEFAULT_SEEDS: Final = 5

FigureName = Literal["core", "hard", "hit", "accuracy", "recall_at_1", "recall_at_10"]
Expected = Literal["above zero", "around zero"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to train, run with several seeds."""

    name: str
    dataset: str = "demo"
    """The data set whose main run the options change."""
    after: str = ""
    """The arm whose best weights, of the same seed, this one starts from."""
    seeds: int = DEFAULT_SEEDS
    """At least so many seeds, 1 to this."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the data set's main run, as in a preset; what all arms share included."""

    def run_name(self, seed: int) -> str:
        """The folder of one of its runs."""
        return f"{self.name}-seed{seed}"

    def config(self, main: TrainConfig, seed: int) -> TrainConfig:
        """The configuration of one of its runs.

        Raises:
            ConfigError: an option does not exist or cannot have its value.
        """
        own: dict[str, Any] = {"seed": seed}
        if self.after:
            own["start_from"] = f"../{self.after}-seed{seed}"
        return TrainConfig.from_dict(merged(merged(main.to_dict(), self.options), own))


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A sum of figures: what is said to be better, less what is said to be worse."""

    group: str
    """Claims that belong together, as the page's heading."""
    text: str
    source: str
    """Where the paper says so."""
    figure: FigureName
    """Which figure of the arms is compared."""
    plus: tuple[str, ...]
    """Arms whose figures are added."""
    minus: tuple[str, ...]
    """Arms whose figures are taken away."""
    expected: Expected = "above zero"
    """Where the 95 % interval of the sum is to lie: all of it above zero, or on both sides."""

    def __post_init__(self) -> None:
        for value, known in ((self.figure, FigureName), (self.expected, Expected)):
            if value not in get_args(known):
                raise ValueError(f"{value!r} is none of {', '.join(get_args(known))}")

    def holds(self, found: Interval) -> bool | None:
        """Whether it holds by some seeds' interval; None where one seed gives none."""
        if found.half_width is None:
            return None
        if self.expected == "above zero":
            return found.mean > found.half_width
        return abs(found.mean) <= found.half_width

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm it needs."""
        return (*self.plus, *self.minus)


@dataclass(frozen=True, kw_only=True, slots=True)
class Convergence:
    """When a seed counts as having left the plateau on which every run starts."""

    arms: tuple[str, ...]
    """The arms whose seeds are counted."""
    baseline: str
    """The arm whose mean accuracy a run on the plateau does not pass."""
    least_gain: float
    """Core accuracy above the baseline's mean."""
    least_hit: float
    """Share of the selected frames that lie in the evidence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """All arms and claims of a file."""

    arms: Mapping[str, Arm]
    claims: tuple[Claim, ...]
    convergence: Convergence
    shared: Mapping[str, Any]
    """Options of all arms, unless an arm has its own."""

    def differs(self, arm: Arm) -> dict[str, Any]:
        """An arm's own options, by dotted name: what is not so in all arms."""
        shared = dotted(self.shared)
        own = {k: v for k, v in dotted(arm.options).items() if k not in shared or shared[k] != v}
        return own | ({"start_from": arm.after} if arm.after else {})

    def needed(self, only: list[str]) -> list[Arm]:
        """The arms of the claims in some groups (all, if none is named), each after those it needs.

        Raises:
            InputError: there is no such group.
        """
        groups = dict.fromkeys(claim.group for claim in self.claims)
        if unknown := [name for name in only if name not in groups]:
            raise InputError(
                f"There is no group of claims {unknown[0]!r}; known: {', '.join(groups)}."
            )
        ordered = dict[str, Arm]()

        def add(name: str) -> None:
            arm = self.arms[name]
            if arm.after:
                add(arm.after)
            ordered.setdefault(name, arm)

        for claim in self.chosen(only):
            for name in claim.arms:
                add(name)
        return list(ordered.values())

    def chosen(self, only: list[str]) -> list[Claim]:
        """The claims in some groups; all, if none is named."""
        return [claim for claim in self.claims if not only or claim.group in only]


def read_study(path: Path = SHIPPED) -> Study:
    """Read a file of arms and claims.

    Raises:
        InputError: it is no such file, or a claim names an arm that is not there.
    """
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        shared = tree["shared"]
        arms = {name: _arm(name, merged(shared, values)) for name, values in tree["arms"].items()}
        claims = tuple(Claim(**_with_tuples(claim)) for claim in tree["claims"])
        convergence = Convergence(**_with_tuples(tree["convergence"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a file of arms and claims: {error}") from error
    wanted = {name for claim in claims for name in claim.arms}
    wanted |= {arm.after for arm in arms.values() if arm.after}
    wanted |= {*convergence.arms, convergence.baseline}
    if absent := sorted(wanted - arms.keys()):
        raise InputError(f"{path}: there is no arm {absent[0]!r}; known: {', '.join(arms)}.")
    return Study(arms=arms, claims=claims, convergence=convergence, shared=shared)


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _arm(name: str, values: dict[str, Any]) -> Arm:
    own = {key: values.pop(key) for key in ("dataset", "after", "seeds") if key in values}
    return Arm(name=name, options=values, **own)
