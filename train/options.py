"""Options as frozen dataclasses that are read strictly: what is unknown or of a wrong type is refused."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from cache_schema.errors import InputError

_PAPER: Final = {"k": "selected", "l": "sampling_blocks"}
"""What the paper calls an option -> what it is called here."""
_IN_WORDS: Final = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class ConfigError(InputError, ValueError):
    """A configuration names an unknown option, or gives one a value it cannot have."""


class Options:
    """Checks shared by all configurations: types of plain values, and strict parsing."""

    __slots__ = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, under: str = "") -> Self:
        """Build from a plain mapping (TOML, JSON); unknown keys and wrong types are refused.

        Args:
            values: by option; of nested options a mapping again.
            under: what the names of these options begin with, as in `--set model.selected=8`.

        Raises:
            ConfigError: naming the key, what was found and the closest known key.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(f"{under[:-1] or cls.__name__} must be a table, found {values!r}")
        known, nested = cls._names(), cls._nested()
        chosen: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(f"{cls.__name__} has no option {key!r}; {cls._hint(key, under)}")
            chosen[key] = value
            if key in nested:
                chosen[key] = nested[key].from_dict(value, under=f"{under}{key}.")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `from_dict` reads back to an equal configuration."""
        return dataclasses.asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def _names(cls) -> list[str]:
        return [option.name for option in dataclasses.fields(cls)]  # type: ignore[arg-type]

    @classmethod
    def _nested(cls) -> "dict[str, type[Options]]":
        """The options that have options of their own."""
        hints = typing.get_type_hints(cls)
        return {n: h for n, h in hints.items() if isinstance(h, type) and issubclass(h, Options)}

    @classmethod
    def _full_names(cls, under: str) -> dict[str, str]:
        """Name -> name with all that it lies under; an option wins over a deeper one of its name."""
        names: dict[str, str] = {}
        for name, options in cls._nested().items():
            names |= options._full_names(f"{under}{name}.")
        return names | {name: f"{under}{name}" for name in cls._names()}

    @classmethod
    def _hint(cls, key: str, under: str) -> str:
        """What an unknown key may have meant."""
        names = cls._full_names(under)
        close = difflib.get_close_matches(_PAPER.get(key.lower(), key), names, n=1)
        return (
            f"did you mean {names[close[0]]!r}?" if close else f"known: {', '.join(cls._names())}"
        )

    def _check_types(self) -> None:
        """Refuse values whose type or choice the annotation does not allow."""
        for name, hint in typing.get_type_hints(type(self)).items():
            value = getattr(self, name)
            if not _fits(value, hint):
                literal = typing.get_origin(hint) is Literal
                allowed = typing.get_args(hint) if literal else _IN_WORDS.get(hint, hint)
                raise ConfigError(f"{type(self).__name__}.{name} is {value!r}, expected {allowed}")

    def _require(self, name: str, holds: bool, rule: str) -> None:
        """Raise with the option's name, its value and the rule it breaks."""
        if not holds:
            value = getattr(self, name)
            raise ConfigError(f"{type(self).__name__}.{name} is {value!r}, must be {rule}")


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401 - annotations have no common type
    """Whether a value is of an annotated type: Literal, float (integers too), or a plain class."""
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if typing.get_args(hint):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint is float:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
