"""Rules for the fields of metadata records, checked so that every broken one is reported at once."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from cache_schema.errors import Problem

Rule = Callable[[object], str | None]
"""Takes a value; returns what is wrong with it, or None."""

# Control, format (bidirectional overrides hide what an id says), surrogate, line separators.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def check_fields(
    values: Mapping[str, object], rules: Mapping[str, Rule], path: str = ""
) -> list[Problem]:
    """Checks a record against the rules of its fields.

    Args:
        values: the record.
        rules: one rule per field; a field without a rule is unknown, and refused.
        path: where the record stands in the whole document, put before every problem's path.

    Returns:
        Every problem found, in the order of the rules; empty for a valid record.
    """
    prefix = f"{path}." if path else ""
    problems = []
    for name, rule in rules.items():
        if name not in values:
            problems.append(Problem(f"{prefix}{name}", "is missing"))
        elif (problem := rule(values[name])) is not None:
            problems.append(Problem(f"{prefix}{name}", problem))
    problems.extend(
        Problem(f"{prefix}{name}", "is not a known field") for name in values if name not in rules
    )
    return problems


def unprintable(text: str) -> str | None:
    """Returns the first character that does not belong on one printed line, as U+XXXX, or None."""
    if text.isprintable():
        return None  # nearly all text, and many times faster than looking at each character
    for character in text:
        if unicodedata.category(character) in _UNPRINTABLE:
            return f"U+{ord(character):04X}"
    return None


def text(*, longest: int = 512, empty: bool = False, pattern: str | None = None) -> Rule:
    """One line of printable text."""
    compiled = re.compile(pattern) if pattern is not None else None

    def rule(value: object) -> str | None:
        if not isinstance(value, str):
            return f"is {_shown(value)}, not text"
        if not value and not empty:
            return "is empty"
        if len(value) > longest:
            return f"has {len(value)} characters, more than {longest}"
        if (character := unprintable(value)) is not None:
            return f"contains the unprintable character {character}"
        if value and compiled is not None and compiled.fullmatch(value) is None:
            return f"is {value!r}, which does not match {compiled.pattern}"
        return None

    return rule


def remembered(rule: Rule) -> Rule:
    """The same rule for text of which few different ones come up: each is judged once."""
    judge = lru_cache(maxsize=4096)(rule)

    def quick(value: object) -> str | None:
        # Only text is remembered: 1 and True are one key, and lists are none.
        return judge(value) if isinstance(value, str) else rule(value)

    return quick


def one_of(*choices: str) -> Rule:
    """One of a few words."""

    def rule(value: object) -> str | None:
        if isinstance(value, str) and value in choices:
            return None
        return f"is {_shown(value)}, not one of {', '.join(choices)}"

    return rule


def integer(*, least: int = 0, most: int = 2**62) -> Rule:
    """A whole number within bounds, both included; True and False are not numbers."""

    def rule(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return f"is {_shown(value)}, not a whole number"
        if not least <= value <= most:
            return f"is {value}, outside {least} to {most}"
        return None

    return rule


def number(*, least: float = -math.inf, above: float = -math.inf) -> Rule:
    """A finite number that is at least ``least`` and greater than ``above``."""

    def rule(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"is {_shown(value)}, not a number"
        if not math.isfinite(value):
            return f"is {value}, not a finite number"
        if value < least:
            return f"is {value}, less than {least}"
        if value <= above:
            return f"is {value}, not greater than {above}"
        return None

    return rule


def boolean() -> Rule:
    """True or False."""

    def rule(value: object) -> str | None:
        return None if isinstance(value, bool) else f"is {_shown(value)}, not true or false"

    return rule


def sequence(item: Rule, *, length: int | None = None) -> Rule:
    """A list or tuple whose items all keep one rule."""

    def rule(value: object) -> str | None:
        if isinstance(value, str) or not isinstance(value, Sequence):
            return f"is {_shown(value)}, not a list"
        if length is not None and len(value) != length:
            return f"has {len(value)} items, not {length}"
        for position, element in enumerate(value):
            if (problem := item(element)) is not None:
                return f"item {position} {problem}"
        return None

    return rule


def optional(present: Rule) -> Rule:
    """None, or what another rule asks for."""

    def rule(value: object) -> str | None:
        return None if value is None else present(value)

    return rule


def either(first: Rule, second: Rule) -> Rule:
    """What one of two rules allows; the first one's complaint is told."""

    def rule(value: object) -> str | None:
        return None if second(value) is None else first(value)

    return rule


def anything() -> Rule:
    """A field that must be there, and whose content is checked elsewhere."""

    def rule(_value: object) -> str | None:
        return None

    return rule


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
