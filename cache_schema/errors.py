"""The project's error tree: every error a user can meet, and the exit code it ends the program with.

    VideoDistillError               exit 1
    ├── InputError                  exit 2: what the user asked for cannot be done
    ├── SchemaError                 metadata or a table breaks its schema; carries every problem
    └── StoreError
        ├── StoreAbsent             exit 2: nothing is there
        ├── StoreForeign            exit 2: something is there that is not a feature store
        ├── StoreNewer              exit 2: a store of a later format, or with features unknown here
        ├── StoreOlder              exit 2: a store of an earlier format
        ├── IdentityMismatch        a feature store, but of other features
        ├── StoreUnreachable        its server does not answer, or cannot do what is asked
        │   └── StoreDenied         it refuses: the credentials
        ├── StoreBusy               another writer owns, or has ended, what was asked for
        ├── NonFiniteFeatures       features with NaN or infinity were offered for writing
        ├── ClipMissing             the store holds no features of this clip
        └── CorruptStore            bytes are not what was written

A message says what was found, where, what was expected and what to do next. All errors survive
pickling, because they cross process borders in extraction.
"""

# ruff: noqa: N818 -- the names say what is the case (StoreAbsent), as the words of docs/ do.

from collections.abc import Sequence
from typing import NamedTuple

_SHOWN_PROBLEMS = 20


class VideoDistillError(Exception):
    """Root of all errors that the project raises on purpose."""

    exit_code: int = 1
    """Exit status of the command line when this error ends the program."""


class InputError(VideoDistillError):
    """The user's input cannot be used as given."""

    exit_code = 2


class Problem(NamedTuple):
    """One broken rule: where (``preprocess.std``, ``row 3.answer``), and what is wrong there."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


class SchemaError(VideoDistillError):
    """Metadata or a table breaks its schema.

    Attributes:
        what: the thing that was checked, with its place.
        problems: every broken rule, not only the first.
    """

    def __init__(self, what: str, problems: Sequence[tuple[str, str]]) -> None:
        super().__init__(what, problems)
        self.what = what
        self.problems = [Problem(*problem) for problem in problems]

    def __str__(self) -> str:
        shown = [str(problem) for problem in self.problems[:_SHOWN_PROBLEMS]]
        if len(self.problems) == 1:
            return f"{self.what} is not valid: {shown[0]}"
        if len(self.problems) > _SHOWN_PROBLEMS:
            shown.append(f"... and {len(self.problems) - _SHOWN_PROBLEMS} more")
        return f"{self.what} is not valid, {len(self.problems)} problems:\n  " + "\n  ".join(shown)


class StoreError(VideoDistillError):
    """A feature store cannot be used as asked."""


class StoreAbsent(StoreError):
    """There is nothing at the store's path."""

    exit_code = 2


class StoreForeign(StoreError):
    """There is something at the store's path, and it is not a feature store."""

    exit_code = 2


class StoreNewer(StoreError):
    """The store was written by a later version of this project."""

    exit_code = 2


class StoreOlder(StoreError):
    """The store has a format that this version no longer reads."""

    exit_code = 2


class IdentityMismatch(StoreError):
    """The store holds features of another identity."""


class StoreUnreachable(StoreError, OSError):
    """The server of a store does not answer, or cannot do what is asked of it."""


class StoreDenied(StoreUnreachable, PermissionError):
    """The server of a store refuses what is asked, for want of credentials or of rights."""


class StoreBusy(StoreError):
    """Another writer owns, or has already ended, the block that was to be written."""


class NonFiniteFeatures(StoreError):
    """Features with NaN or infinity were offered for writing.

    Attributes:
        clip_ids: the clips concerned, in the order given.
    """

    def __init__(self, message: str, *, clip_ids: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.clip_ids = list(clip_ids)


class ClipMissing(StoreError):
    """The store, at the version opened, holds no features of a clip."""


class CorruptStore(StoreError):
    """Bytes of a store are not what was written.

    Attributes:
        clip_id: the clip whose data are damaged, where one is known.
        file: full name of the damaged file, where one is known.
    """

    def __init__(
        self, message: str, *, clip_id: str | None = None, file: str | None = None
    ) -> None:
        super().__init__(message)
        self.clip_id = clip_id
        self.file = file
