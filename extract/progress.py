"""Showing a job while it runs: live bars on a terminal, a log line every few seconds elsewhere."""

import logging
import threading
import time
from typing import IO, Final, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from extract.block_records import BlockReport, ClipDone
from extract.plan import ExtractionPlan
from extract.running_counts import RunningCounts
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


class OneAtATime:
    """Hands events of many threads to a display one at a time, and remembers whose they were."""

    def __init__(self, display: ProgressDisplay) -> None:
        self._display = display
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def start(self, plan: ExtractionPlan) -> None:
        """The job begins."""
        with self._lock:
            self._display.start(plan)

    def clip(self, done: ClipDone) -> None:
        """A clip was extracted or failed."""
        with self._lock:
            # A block that is done twice, because its worker died late, is news only once.
            if done.clip_id not in self._told:
                self._told.add(done.clip_id)
                self._display.clip(done)

    def block(self, report: BlockReport) -> None:
        """A block was committed."""
        with self._lock:
            self._display.block(report)

    def note(self, message: str) -> None:
        """Something that a person should know."""
        with self._lock:
            self._display.note(message)

    def end(self, tally: Tally) -> None:
        """The job is over."""
        with self._lock:
            self._display.end(tally)


class LogProgress:
    """Log lines of the logger ``extract``, at most one every few seconds."""

    def __init__(self, every_s: float = _LOG_SECONDS) -> None:
        self._counts = RunningCounts()
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
    """A live panel: the bar with the time left, and below it what happens and where time goes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._counts = RunningCounts()
        self._bar = Progress(
            TextColumn("clips"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            expand=True,
        )
        self._room = ""
        self._task: TaskID | None = None
        self._live = Live(
            get_renderable=self._panel, console=console, transient=True, refresh_per_second=2
        )

    def start(self, plan: ExtractionPlan) -> None:
        """Says what is to be done and shows the panel."""
        self._counts.start(plan)
        self._room = _room(plan)
        self._console.print(describe(plan), markup=False)
        if plan.pending:
            self._task = self._bar.add_task("", total=len(plan.pending))
            self._live.start()

    def clip(self, done: ClipDone) -> None:
        """Moves the bar."""
        self._counts.clip(done)

    def block(self, report: BlockReport) -> None:
        """Updates the waits."""
        self._counts.block(report)

    def note(self, message: str) -> None:
        """Prints a line above the panel."""
        self._console.print(message, markup=False)

    def end(self, tally: Tally) -> None:
        """Takes the panel away and says how it ended."""
        self._live.stop()
        self._console.print(str(tally), markup=False)

    def _panel(self) -> Group:
        counts = self._counts
        if self._task is not None:
            self._bar.update(
                self._task, completed=counts.done, description=f"{counts.remaining} left"
            )
        state = (
            f"{counts.done - counts.failed} done, {counts.failed} failed, {counts.left} left; "
            f"{counts.frames_per_second:.0f} frames/s"
        )
        return Group(self._bar, Text(state), Text(counts.waits), Text(self._room))


class Both:
    """Hands every event to two displays."""

    def __init__(self, one: ProgressDisplay, other: ProgressDisplay) -> None:
        self._displays = (one, other)

    def start(self, plan: ExtractionPlan) -> None:
        """The job begins."""
        for display in self._displays:
            display.start(plan)

    def clip(self, done: ClipDone) -> None:
        """A clip was extracted or failed."""
        for display in self._displays:
            display.clip(done)

    def block(self, report: BlockReport) -> None:
        """A block was committed."""
        for display in self._displays:
            display.block(report)

    def note(self, message: str) -> None:
        """Something that a person should know."""
        for display in self._displays:
            display.note(message)

    def end(self, tally: Tally) -> None:
        """The job is over."""
        for display in self._displays:
            display.end(tally)


def progress_for(stream: IO[str]) -> ProgressDisplay:
    """Returns the display that fits a stream: a live bar for a terminal, log lines otherwise."""
    if stream.isatty():
        return TerminalProgress(Console(file=stream, highlight=False))
    return LogProgress()


def describe(plan: ExtractionPlan) -> str:
    """Returns a line about what a job will do."""
    return (
        f"{len(plan.pending)} of {plan.clips} clips to extract, {plan.skipped} skipped; "
        f"{_room(plan)}"
    )


def _room(plan: ExtractionPlan) -> str:
    free = "" if plan.bytes_free is None else f", {plan.bytes_free / 1e6:.0f} MB free"
    return f"{plan.bytes_needed / 1e6:.0f} MB needed{free}"
