"""What is asked of a decode process for one clip, and how it crosses the process border.

A message is ``<header bytes: u32> <payload bytes: u64>`` (little endian), a JSON header and the
payload: nothing that a damaged decoder sends can be executed. A request has no payload; an answer
carries the frames, uint8 [d, S, S, 3].
"""

import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final, Literal

from cache_schema import Preprocess
from extract.limits import DecodeLimits

FRAMING: Final = struct.Struct("<IQ")

Backend = Literal["pyav", "decord", "torchcodec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameRequest:
    """One clip to decode."""

    path: Path
    """The video file."""
    root: Path | None
    """Folder that must hold the file once links are followed; None allows any place."""
    start_s: float | None
    """Begin of the clip, seconds from the first frame of the file."""
    end_s: float | None
    """End of the clip."""
    frames: int
    """N, how many frames to take."""
    preprocess: Preprocess
    """Size of the pictures and how they are brought to it."""
    limits: DecodeLimits
    backend: Backend
    """Library to try first."""
    extra_roots: tuple[Path, ...] = ()
    """Further folders that may hold the file."""


def request_to_json(request: FrameRequest, deadline: float) -> dict[str, object]:
    """Returns a request as plain JSON values, with the seconds it may take."""
    document = asdict(request)
    document["path"] = str(request.path)
    document["root"] = None if request.root is None else str(request.root)
    document["extra_roots"] = [str(folder) for folder in request.extra_roots]
    document["deadline"] = deadline
    return document


def request_from_json(document: Mapping[str, object]) -> FrameRequest:
    """Reads what ``request_to_json`` wrote, less the deadline."""
    values = {entry.name: document[entry.name] for entry in fields(FrameRequest)}
    preprocess = dict(values["preprocess"])  # type: ignore[call-overload]
    for name in ("mean", "std"):
        preprocess[name] = tuple(preprocess[name])
    values["preprocess"] = Preprocess(**preprocess)
    values["limits"] = DecodeLimits(**values["limits"])  # type: ignore[arg-type]
    values["path"] = Path(str(values["path"]))
    values["root"] = None if values["root"] is None else Path(str(values["root"]))
    values["extra_roots"] = tuple(Path(folder) for folder in values["extra_roots"])  # type: ignore[attr-defined]
    return FrameRequest(**values)  # type: ignore[arg-type]
