"""A job's state in a file that is replaced every few seconds, for schedulers and monitors."""

import json
import os
import platform
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cache_schema import InputError
from cache_schema.storage.durable_files import replace_file
from extract.block_records import BlockReport, ClipDone
from extract.plan import ExtractionPlan
from extract.running_counts import RunningCounts
from extract.tally import Tally

_SECONDS: Final = 3.0
_PREFIX: Final = "videodistill_extract_"
_STATES: Final = ("starting", "running", "ended", "broken")
_HELP: Final = {
    "clips": "Clips asked for.",
    "pending": "Clips that this job set out to do.",
    "done": "Clips extracted by this job.",
    "failed": "Clips that failed in this job.",
    "left": "Clips that are still to be done.",
    "skipped": "Clips that were in the store, or in other hands, when the job began.",
    "frames": "Frames that went through the encoder.",
    "frames_per_second": "Mean since the job began.",
    "eta_seconds": "Time left at the mean pace.",
    "decoder_share": "Share of the blocks' time that was spent waiting for decoded frames.",
    "encoder_share": "Share of the blocks' time in the encoder.",
    "disk_share": "Share of the blocks' time spent writing.",
    "bytes_needed": "Bytes of the features, if all clips succeed.",
    "bytes_free": "Bytes that were free when the job began.",
    "started_timestamp_seconds": "When the job began, Unix time.",
    "updated_timestamp_seconds": "When this was written, Unix time.",
    "exit_code": "Exit status that the job ends with.",
}
"""Every number of the file, and what it says."""


class StatusFile:
    """A display that writes a file: JSON, or Prometheus' text format if its name ends in .prom.

    Used as a context, so that a job that ends in an error says so. The file is replaced as a whole.
    A disk that does not take it does not stop the job.

    Args:
        path: the file; its folder must exist.
        store: path or URL of the store, to tell jobs apart.
        every_s: seconds between two versions.

    Raises:
        InputError: the folder does not exist.
    """

    def __init__(self, path: Path, store: str, every_s: float = _SECONDS) -> None:
        if not path.parent.is_dir():
            raise InputError(f"The status file {path} cannot be written: there is no such folder.")
        self._path = path
        self._store = store
        self._every = every_s
        self._counts = RunningCounts()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="status-file", daemon=True)
        self._started = time.time()
        self._state = "starting"
        self._note = ""
        self._plan: ExtractionPlan | None = None
        self._tally: Tally | None = None

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        with self._lock:
            if self._tally is None:
                self._state = "broken"
                self._note = "" if error is None else f"{type(error).__name__}: {error}"
        self._write()

    def start(self, plan: ExtractionPlan) -> None:
        """The job begins."""
        with self._lock:
            self._counts.start(plan)
            self._plan = plan
            self._state = "running"

    def clip(self, done: ClipDone) -> None:
        """Counts a clip."""
        with self._lock:
            self._counts.clip(done)

    def block(self, report: BlockReport) -> None:
        """Adds up the waits."""
        with self._lock:
            self._counts.block(report)

    def note(self, message: str) -> None:
        """Keeps the last thing that a person should know."""
        with self._lock:
            self._note = message

    def end(self, tally: Tally) -> None:
        """The job is over."""
        with self._lock:
            self._tally = tally
            self._state = "ended"

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._write()

    def _write(self) -> None:
        with self._lock:
            numbers = self._numbers()
            text = (
                self._prometheus(numbers) if self._path.suffix == ".prom" else self._json(numbers)
            )
        try:
            replace_file(self._path, text.encode())
        except OSError as error:
            self._note = f"the status file could not be written: {error.strerror}"

    def _numbers(self) -> dict[str, float | None]:
        counts, plan, tally = self._counts, self._plan, self._tally
        numbers: dict[str, float | None] = {
            "clips": plan.clips if plan else None,
            "pending": len(plan.pending) if plan else None,
            # The store has the last word, once it has been asked.
            "done": tally.ok if tally else counts.done - counts.failed,
            "failed": tally.failed if tally else counts.failed,
            "left": tally.left if tally else counts.left,
            "skipped": plan.skipped if plan else None,
            "frames": tally.frames if tally else counts.frames,
            "frames_per_second": round(counts.frames_per_second, 3),
            "eta_seconds": None if counts.eta_s is None else round(counts.eta_s, 1),
            **{f"{name}_share": round(share, 4) for name, share in counts.shares.items()},
            "bytes_needed": plan.bytes_needed if plan else None,
            "bytes_free": plan.bytes_free if plan else None,
            "started_timestamp_seconds": round(self._started, 3),
            "updated_timestamp_seconds": round(time.time(), 3),
            "exit_code": tally.exit_code if tally else None,
        }
        return numbers

    def _json(self, numbers: dict[str, float | None]) -> str:
        document = {
            "state": self._state,
            "store": self._store,
            "host": platform.node(),
            "pid": os.getpid(),
            "note": self._note,
            **numbers,
        }
        return json.dumps(document, indent=2) + "\n"

    def _prometheus(self, numbers: dict[str, float | None]) -> str:
        label = f'store="{_escaped(self._store)}"'
        lines = []
        for name, value in numbers.items():
            if value is not None:
                lines += [
                    f"# HELP {_PREFIX}{name} {_HELP[name]}",
                    f"# TYPE {_PREFIX}{name} gauge",
                    f"{_PREFIX}{name}{{{label}}} {value}",
                ]
        lines += [
            f"# HELP {_PREFIX}state 1 for the state that the job is in.",
            f"# TYPE {_PREFIX}state gauge",
            *(
                f'{_PREFIX}state{{{label},state="{state}"}} {int(state == self._state)}'
                for state in _STATES
            ),
        ]
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    """A label's value, as Prometheus' text format quotes it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
