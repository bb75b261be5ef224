"""How long each step of a data set took, kept over several commands."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache_schema.durable_files import replace_file

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
    seconds = read_durations(runs) | {step: round(time.monotonic() - started, 1)}
    runs.mkdir(parents=True, exist_ok=True)
    replace_file(runs / FILE_NAME, (json.dumps(seconds, indent=2) + "\n").encode())
