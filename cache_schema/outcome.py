"""What became of one clip in extraction: exactly one outcome per clip, failed or not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from cache_schema import field_rules
from cache_schema.clip import clip_id_rule, escape_problem
from cache_schema.errors import Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.shards.measured_loss import MeasuredLoss

LONGEST_DETAIL: Final = 300


class Status(StrEnum):
    """Whether a clip has features."""

    OK = "ok"
    FAILED = "failed"


_RULES: Final[Mapping[str, Rule]] = {
    "clip_id": clip_id_rule,
    "status": field_rules.one_of(*Status),
    "reason": field_rules.text(longest=64, empty=True, pattern="[a-z][a-z0-9_]*"),
    "detail": field_rules.text(longest=LONGEST_DETAIL, empty=True),
    "frame_index": field_rules.optional(field_rules.sequence(field_rules.integer(most=2**31 - 1))),
    "frame_time": field_rules.optional(field_rules.sequence(field_rules.number())),
    "distinct_frames": field_rules.integer(),
    "source_path": field_rules.text(longest=4096, empty=True),
    "source_bytes": field_rules.integer(),
    "source_digest": field_rules.text(empty=True, pattern="[0-9a-f]{32}"),
    "backend": field_rules.text(longest=100, empty=True),
    "flags": field_rules.sequence(field_rules.text(longest=LONGEST_DETAIL)),
    "start_s": field_rules.optional(field_rules.number(least=0.0)),
    "end_s": field_rules.optional(field_rules.number(above=0.0)),
    "loss": field_rules.anything(),
}
_LEFT_OUT: Final[Mapping[str, object]] = {"start_s": None, "end_s": None, "loss": None}
"""What a record without these fields means: the clip is its whole video, and nothing was lost."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipOutcome:
    """What became of one clip.

    Raises:
        SchemaError: fields are out of range, a clip that is ok lacks its frames, or one that
            failed lacks its reason; carries every problem.
    """

    clip_id: str
    """The clip."""
    status: Status
    """Whether the clip has features."""
    reason: str = ""
    """Short code of a failure, such as ``truncated``; empty for a clip that is ok."""
    detail: str = ""
    """One line about the failure; longer text is cut, line breaks become spaces."""
    frame_index: npt.NDArray[np.int32] | None = None
    """int32 [N]: place of each frame used among the frames of the video, in presentation order;
    None where an import does not know it."""
    frame_time: npt.NDArray[np.float64] | None = None
    """float64 [N]: presentation time of each frame used, in seconds from the file's start; None where
    an import does not know it."""
    distinct_frames: int = 0
    """How many of the N frames differ; fewer than N in a clip of fewer than N frames."""
    source_path: str = ""
    """The video file, relative to its data set's root."""
    source_bytes: int = 0
    """Size of the video file."""
    source_digest: str = ""
    """BLAKE2b-128 of the video file, 32 hexadecimal digits; empty where it could not be read."""
    backend: str = ""
    """Decoder and its version, such as ``pyav 18.1.0``."""
    flags: tuple[str, ...] = ()
    """Remarks that are no failure, one line each: ``decoded 68 of 310 declared frames``."""
    start_s: float | None = None
    """Begin of the clip in its video, in seconds; None for the video's begin."""
    end_s: float | None = None
    """End of the clip in its video, in seconds, not included; None for the video's end."""
    loss: MeasuredLoss | None = None
    """How far the patches of a lossy variant are from those they were made of; written with them."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", one_line(self.detail))
        object.__setattr__(self, "flags", tuple(one_line(flag) for flag in self.flags))
        problems = check_fields({**_LEFT_OUT, **self.to_json()}, _RULES)
        if not problems:
            problems = [
                *self._frame_problems(),
                *self._source_problems(),
                *self._status_problems(),
            ]
        if problems:
            raise SchemaError(f"outcome of clip {self.clip_id!r}", problems)
        object.__setattr__(self, "status", Status(self.status))
        for name in ("start_s", "end_s"):
            bound = getattr(self, name)
            object.__setattr__(self, name, None if bound is None else float(bound))
        for name, dtype in (("frame_index", np.int32), ("frame_time", np.float64)):
            if getattr(self, name) is not None:
                owned = np.array(getattr(self, name), dtype=dtype)
                owned.setflags(write=False)
                object.__setattr__(self, name, owned)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClipOutcome):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.clip_id, self.status, self.reason, self.source_digest))

    def to_json(self) -> dict[str, object]:
        """Returns plain JSON values, sharing no state with it; bounds and loss of None are left out."""
        values: dict[str, object] = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in _LEFT_OUT or getattr(self, field.name) is not None
        }
        for name in ("frame_index", "frame_time"):
            if values[name] is not None:
                values[name] = np.asarray(values[name]).tolist()
        values["status"] = str(self.status)
        values["flags"] = list(self.flags)
        if self.loss is not None:
            values["loss"] = self.loss.to_json()
        return values

    @classmethod
    def from_json(cls, document: object) -> Self:
        """Reads what ``to_json`` wrote, and nothing else.

        Raises:
            SchemaError: fields are missing, unknown or out of range; carries every problem.
        """
        if not isinstance(document, Mapping):
            raise SchemaError(
                "clip outcome", [("", f"is {type(document).__name__}, not an object")]
            )
        problems = check_fields({**_LEFT_OUT, **document}, _RULES)
        if problems:
            raise SchemaError(f"outcome of clip {document.get('clip_id')!r}", problems)
        if (loss := document.get("loss")) is not None:
            document = {**document, "loss": MeasuredLoss.from_json(loss)}
        return cls(**document)

    def _frame_problems(self) -> list[Problem]:
        problems = []
        index, time = self.frame_index, self.frame_time
        if time is None and index is not None:
            problems.append(Problem("frame_time", "must be given with frame_index"))
        elif time is not None:
            if index is not None and np.shape(index) != np.shape(time):
                what = f"has shape {np.shape(time)}, frame_index {np.shape(index)}"
                problems.append(Problem("frame_time", what))
            if np.any(np.diff(time) < 0):
                problems.append(Problem("frame_time", "goes backwards"))
            if not 1 <= self.distinct_frames <= len(time):
                what = f"is {self.distinct_frames}, outside 1 to {len(time)}"
                problems.append(Problem("distinct_frames", what))
        return problems

    def _source_problems(self) -> list[Problem]:
        problems = []
        if self.source_path and (escape := escape_problem(self.source_path)) is not None:
            problems.append(Problem("source_path", escape))
        if self.start_s is not None and self.end_s is not None and self.start_s >= self.end_s:
            problems.append(Problem("end_s", f"is {self.end_s}, not after start_s {self.start_s}"))
        return problems

    def _status_problems(self) -> list[Problem]:
        if self.status == Status.OK:
            return [Problem("reason", "is given for a clip that is ok")] if self.reason else []
        return [] if self.reason else [Problem("reason", "is missing for a clip that failed")]


def one_line(text: str) -> str:
    """Makes foreign text, such as a decoder's message, one printable line of bounded length."""
    printable = "".join(
        " " if field_rules.unprintable(character) else character for character in text
    )
    line = re.sub(r" +", " ", printable).strip()
    return line if len(line) <= LONGEST_DETAIL else f"{line[: LONGEST_DETAIL - 3]}..."
