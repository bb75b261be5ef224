"""Reads the one JSON object or array of a file entry by entry, in little memory, naming the place of errors."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TextIO

from cache_schema.errors import InputError

_CHUNK_CHARACTERS: Final = 1 << 22
_LONGEST_ENTRY: Final = 1 << 26
"""Characters of one entry; more is a file that is broken in a way that hides where an entry ends."""
_LONGEST_TAIL: Final = 4
"""Characters at a chunk's end that may belong to the number before them: `.`, `e+`."""
_SPACE: Final = re.compile(r"[ \t\n\r]*")


class Entry(NamedTuple):
    """One entry of the object or array."""

    line: int
    """Where it begins, from 1."""
    key: str | None
    """Its key in the object; None in an array."""
    value: object


def read_object(path: Path, file: TextIO) -> Iterator[Entry]:
    """Every key and value of a file that is one JSON object; a key that is there twice comes twice.

    Args:
        path: the file's name, for messages.
        file: the file, opened.

    Raises:
        InputError: it is not UTF-8, or not one JSON object; names line and column.
    """
    return _Scanner(path, file).entries("{", "}")


def read_array(path: Path, file: TextIO) -> Iterator[Entry]:
    """Every value of a file that is one JSON array.

    Raises:
        InputError: as `read_object`.
    """
    return _Scanner(path, file).entries("[", "]")


def strict_decoder() -> json.JSONDecoder:
    """A decoder that refuses what the standard forbids: repeated keys, NaN and infinities."""
    return json.JSONDecoder(object_pairs_hook=_distinct_keys, parse_constant=_no_constant)


class _Scanner:
    """A window on the file that moves forward entry by entry."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self._path = path
        self._file = file
        self._window = ""
        self._at = 0
        self._ended = False
        # Lines are counted as the scanner goes: up to here, this many, the last beginning there.
        self._counted = 0
        self._line = 1
        self._line_begin = 0
        self._decode: Callable[[str, int], tuple[object, int]] = strict_decoder().raw_decode

    def entries(self, opening: str, closing: str) -> Iterator[Entry]:
        kind = "object" if opening == "{" else "array"
        found = self._next()
        if found != opening:
            raise self._error(f"a JSON {kind} begins with {opening!r}; found {_named(found)}")
        self._at += 1
        count = 0
        while (found := self._next()) != closing:
            if count:
                if found != ",":
                    raise self._error(
                        f"after entry {count} there is {_named(found)} instead of ',' or {closing!r}"
                    )
                self._at += 1
                self._next()
            line, _ = self._place(self._at)
            key = self._key(count) if opening == "{" else None
            self._next()
            yield Entry(line, key, self._value(count))
            count += 1
        self._at += 1
        if found := self._next():
            line, _ = self._place(self._at)
            raise self._error(
                f"there is {_named(found)} after the end of the {kind}. The {count} entries before it "
                f"are whole: the file is mended by deleting from here to its end (line {line})"
            )

    def _key(self, count: int) -> str:
        if (found := self._next()) != '"':
            raise self._error(f"the key of entry {count + 1} begins with {_named(found)}, not '\"'")
        key = self._value(count)
        if (found := self._next()) != ":":
            raise self._error(f"after the key {key!r} there is {_named(found)} instead of ':'")
        self._at += 1
        return str(key)

    def _value(self, count: int) -> object:
        while True:
            try:
                value, end = self._decode(self._window, self._at)
            except json.JSONDecodeError as error:
                # Perhaps only cut by the window's end.
                if self._ended or len(self._window) - self._at > _LONGEST_ENTRY:
                    raise self._error(f"entry {count + 1}: {error.msg}", error.pos) from error
            except RecursionError as error:
                raise self._error(f"entry {count + 1} is nested too deeply") from error
            except ValueError as error:
                raise self._error(f"entry {count + 1}: {error}") from error
            else:
                # A number may go on in the next chunk, as in 6 and .25.
                if len(self._window) - end > _LONGEST_TAIL or self._ended:
                    self._at = end
                    return value
            self._extend()

    def _next(self) -> str:
        """The next character that is not space, where the scanner then stands; empty at the end."""
        while True:
            match = _SPACE.match(self._window, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if self._ended:
                return ""
            self._extend()

    def _extend(self) -> None:
        self._place(self._at)
        try:
            more = self._file.read(_CHUNK_CHARACTERS)
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self._path} is not UTF-8 text ({error}); save it as UTF-8."
            ) from error
        self._window = self._window[self._at :] + more
        self._counted -= self._at
        self._line_begin -= self._at
        self._at = 0
        self._ended = not more

    def _place(self, position: int) -> tuple[int, int]:
        """Line and column of a place in the window that is not before the one asked for last."""
        if lines := self._window.count("\n", self._counted, position):
            self._line += lines
            self._line_begin = self._window.rindex("\n", self._counted, position) + 1
        self._counted = position
        return self._line, position - self._line_begin + 1

    def _error(self, what: str, position: int | None = None) -> InputError:
        line, column = self._place(self._at if position is None else position)
        return InputError(f"{self._path}, line {line}, column {column}: {what}.")


def _named(character: str) -> str:
    return repr(character) if character else "the end of the file"


def _distinct_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} is there more than once in one object")
    return made


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
