"""How long each step of a data set took, kept over several commands."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache_schema.storage.durable_files import replace_file

FILE_NAME = "seconds.json"


def read_durations(runs: Path) -> dict[str, float]:
    """Seconds by step; empty before the first step."""
    path = runs / FILE_NAME
    return dict(json.loads(path.read_text())) if path.is_file() else {}


@contextmanager
def timed(runs: Path, step: str) -> Iterator[None]:
    """Record the wall-clock seconds of a step that did work; a failed step records nothing."""
    started = time.monotonic()
    yield
    record_duration(runs, step, time.monotonic() - started)


def record_duration(runs: Path, step: str, taken: float) -> None:
    """Keep the seconds of a step of which only its end tells whether it did work."""
    seconds = read_durations(runs) | {step: round(taken, 1)}
    runs.mkdir(parents=True, exist_ok=True)
    replace_file(runs / FILE_NAME, (json.dumps(seconds, indent=2) + "\n").encode())
