"""Showing a job while it runs: live bars on a terminal, a log line every few seconds elsewhere."""

import logging
import time
from typing import IO, Final, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from extract.block_records import BlockReport, ClipDone
from extract.plan import ExtractionPlan
from extract.tally import Tally

_LOG: Final = logging.getLogger("extract")
_LOG_SECONDS: Final = 5.0


class ProgressDisplay(Protocol):
    """Whoever wants to follow a job. Calls come from one thread at a time."""

    def start(self, plan: ExtractionPlan) -> None:
        """The job begins."""

    def clip(self, done: ClipDone) -> None:
        """A clip was extracted or failed; it is not yet committed."""

    def block(self, report: BlockReport) -> None:
        """A block was committed."""

    def note(self, message: str) -> None:
        """Something that a person should know."""

    def end(self, tally: Tally) -> None:
        """The job is over."""


class Silent:
    """Shows nothing."""

    def start(self, plan: ExtractionPlan) -> None:
        """Ignores the begin."""

    def clip(self, done: ClipDone) -> None:
        """Ignores a clip."""

    def block(self, report: BlockReport) -> None:
        """Ignores a block."""

    def note(self, message: str) -> None:
        """Ignores a message."""

    def end(self, tally: Tally) -> None:
        """Ignores the end."""


class _Counts:
    """Running sums that both displays show."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.total = self.done = self.failed = self.frames = 0
        self.decode_wait = self.encode = self.write = 0.0

    def start(self, plan: ExtractionPlan) -> None:
        self.begin = time.monotonic()
        self.total = len(plan.pending)

    def clip(self, done: ClipDone) -> None:
        self.done += 1
        self.failed += not done.ok
        self.frames += done.frames

    def block(self, report: BlockReport) -> None:
        self.decode_wait += report.decode_wait
        self.encode += report.encode
        self.write += report.write

    @property
    def text(self) -> str:
        rate = self.frames / max(time.monotonic() - self.begin, 1e-9)
        spent = max(self.decode_wait + self.encode + self.write, 1e-9)
        shares = (
            f"waiting for decoder {self.decode_wait / spent:.0%}, "
            f"encoder {self.encode / spent:.0%}, disk {self.write / spent:.0%}"
        )
        return f"{self.failed} failed, {rate:.0f} frames/s; {shares}"

    @property
    def remaining(self) -> str:
        if not self.done:
            return "unknown"
        seconds = (time.monotonic() - self.begin) / self.done * max(self.total - self.done, 0)
        return time.strftime("%H:%M:%S", time.gmtime(seconds))


class LogProgress:
    """Log lines of the logger ``extract``, at most one every few seconds."""

    def __init__(self, every_s: float = _LOG_SECONDS) -> None:
        self._counts = _Counts()
        self._every = every_s
        self._next = 0.0

    def start(self, plan: ExtractionPlan) -> None:
        """Says what is to be done and how much room there is."""
        self._counts.start(plan)
        self._next = time.monotonic() + self._every
        _LOG.info("%s", describe(plan))

    def clip(self, done: ClipDone) -> None:
        """Counts a clip, and says so if the last line is old enough."""
        counts = self._counts
        counts.clip(done)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            _LOG.info(
                "%d of %d clips, %s; %s left", counts.done, counts.total, counts.text,
                counts.remaining,
            )  # fmt: skip

    def block(self, report: BlockReport) -> None:
        """Adds up the waits."""
        self._counts.block(report)

    def note(self, message: str) -> None:
        """Warns."""
        _LOG.warning("%s", message)

    def end(self, tally: Tally) -> None:
        """Says how it ended."""
        _LOG.info("%s", tally)


class TerminalProgress:
    """A live bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._counts = _Counts()
        self._bar = Progress(
            TextColumn("clips"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def start(self, plan: ExtractionPlan) -> None:
        """Says what is to be done and shows the bar."""
        self._counts.start(plan)
        self._console.print(describe(plan), markup=False)
        if plan.pending:
            self._task = self._bar.add_task("starting", total=len(plan.pending))
            self._bar.start()

    def clip(self, done: ClipDone) -> None:
        """Moves the bar."""
        self._counts.clip(done)
        self._update(advance=1)

    def block(self, report: BlockReport) -> None:
        """Updates the waits."""
        self._counts.block(report)
        self._update(advance=0)

    def note(self, message: str) -> None:
        """Prints a line above the bar."""
        self._console.print(message, markup=False)

    def end(self, tally: Tally) -> None:
        """Takes the bar away and says how it ended."""
        self._bar.stop()
        self._console.print(str(tally), markup=False)

    def _update(self, advance: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, advance=advance, description=self._counts.text)


def progress_for(stream: IO[str]) -> ProgressDisplay:
    """Returns the display that fits a stream: a live bar for a terminal, log lines otherwise."""
    if stream.isatty():
        return TerminalProgress(Console(file=stream, highlight=False))
    return LogProgress()


def describe(plan: ExtractionPlan) -> str:
    """Returns a line about what a job will do."""
    free = "" if plan.bytes_free is None else f", {plan.bytes_free / 1e6:.0f} MB free"
    return (
        f"{len(plan.pending)} of {plan.clips} clips to extract, {plan.skipped} skipped; "
        f"{plan.bytes_needed / 1e6:.0f} MB needed{free}"
    )
