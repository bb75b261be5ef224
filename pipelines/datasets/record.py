"""One entry of an annotation file, whose fields are taken out by kind and refused where they are not it."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from cache_schema.errors import Problem, SchemaError

_INVISIBLE: Final = frozenset({"Cc", "Cf"})


class Record:
    """The fields of one entry, and where it stands in its file.

    Every getter raises SchemaError, with the field's name, where the field is absent, null or of
    another kind.
    """

    __slots__ = ("_fields", "key", "line")

    def __init__(self, line: int, key: str | None, fields: Mapping[str, object]) -> None:
        self.line = line
        """Line of the file, from 1."""
        self.key = key
        """The entry's key in a JSON object; None elsewhere."""
        self._fields = fields

    @property
    def place(self) -> str:
        """Where the entry stands, for messages."""
        return f"line {self.line}" + (f" ({self.key!r})" if self.key is not None else "")

    def has(self, field: str) -> bool:
        """Whether the field is there and neither null nor empty text."""
        value = self._fields.get(field)
        return value is not None and value != ""

    def is_text(self, field: str) -> bool:
        """Whether the field is there and is text."""
        return isinstance(self._fields.get(field), str)

    def text(self, field: str) -> str:
        """Text, on one line: runs of space become one, invisible characters go."""
        value = self._fields.get(field)
        if not isinstance(value, str):
            self._refuse(field, value, "text")
        if not (tidy := tidied(value)):
            raise SchemaError(self.place, [Problem(field, "is empty")])
        return tidy

    def name(self, field: str) -> str:
        """An id, to the letter; a whole number becomes its decimal digits."""
        value = self._fields.get(field)
        if isinstance(value, str):
            if not value:
                raise SchemaError(self.place, [Problem(field, "is empty")])
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(field, value, "an id (text or a whole number)")
        return str(value)

    def whole(self, field: str) -> int:
        """A whole number, also where it is written as text, as in `"2"`."""
        value = self._fields.get(field)
        if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii():
            if len(value) > 18:
                raise SchemaError(self.place, [Problem(field, f"has {len(value)} digits")])
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self._refuse(field, value, "a whole number")
        return value

    def number(self, field: str) -> float:
        """A finite number, also where it is written as text."""
        value = self._fields.get(field)
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                self._refuse(field, value, "a number")
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(field, value, "a number")
        if not math.isfinite(value):
            raise SchemaError(self.place, [Problem(field, f"is {value}, not a finite number")])
        return float(value)

    def index(self, field: str, choices: Sequence[object]) -> int:
        """A place among choices, counted from 0."""
        value = self.whole(field)
        if not 0 <= value < len(choices):
            what = f"is {value}, outside 0 to {len(choices) - 1}"
            raise SchemaError(self.place, [Problem(field, what)])
        return value

    def texts(self, field: str) -> list[str]:
        """A list of texts; a lone text is a list of one."""
        value = self._fields.get(field)
        if isinstance(value, str):
            return [self.text(field)]
        if not isinstance(value, list):
            self._refuse(field, value, "a list of texts")
        inner = Record(self.line, self.key, {f"{field}[{n}]": v for n, v in enumerate(value)})
        return [inner.text(name) for name in inner._fields]

    def record(self, field: str) -> "Record":
        """An object inside the entry."""
        value = self._fields.get(field)
        if not isinstance(value, dict):
            self._refuse(field, value, "an object")
        return Record(self.line, f"{self.key}.{field}" if self.key else field, value)

    def records(self, field: str) -> list["Record"]:
        """A list of objects inside the entry, or an object of objects whose keys count from 0."""
        value = self._fields.get(field)
        if isinstance(value, dict):
            value = [value.get(str(number)) for number in range(len(value))]
        if not isinstance(value, list):
            self._refuse(field, value, "a list of objects")
        inner = Record(self.line, self.key, {f"{field}[{n}]": v for n, v in enumerate(value)})
        return [inner.record(name) for name in inner._fields]

    def spans(self, field: str) -> tuple[tuple[float, float], ...]:
        """A list of [start, end] in seconds, each ending after it starts."""
        value = self._fields.get(field)
        if not isinstance(value, list):
            self._refuse(field, value, "a list of [start_s, end_s]")
        made = []
        for item in value:
            match item:
                case [int() | float() as start, int() | float() as end] if (
                    -math.inf < start < end < math.inf
                ):
                    made.append((float(start), float(end)))
                case _:
                    self.refuse(field, f"holds {item!r}, which is not [start_s, end_s]")
        return tuple(made)

    def refuse(self, field: str, what: str) -> NoReturn:
        """Refuse the entry for what a field holds."""
        raise SchemaError(self.place, [Problem(field, what)])

    def _refuse(self, field: str, value: object, expected: str) -> NoReturn:
        if field not in self._fields:
            known = ", ".join(map(repr, list(self._fields)[:20]))
            self.refuse(field, f"is missing (there are: {known})")
        if value is None:
            self.refuse(field, "is null")
        shown = repr(value)
        self.refuse(
            field, f"is {shown if len(shown) <= 60 else shown[:57] + '...'}, not {expected}"
        )


def tidied(text: str) -> str:
    """The text on one line: runs of space become one, control and format characters go."""
    tidy = " ".join(text.split())
    if tidy.isprintable():
        return tidy
    kept = (c for c in tidy if unicodedata.category(c) not in _INVISIBLE)
    return " ".join("".join(kept).split())
