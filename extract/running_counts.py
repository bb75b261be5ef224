"""The sums that every display of a running job shows."""

import time

from extract.block_records import BlockReport, ClipDone
from extract.plan import ExtractionPlan


class RunningCounts:
    """Clips, frames and waits so far, and what they say about the rest."""

    def __init__(self) -> None:
        self.begin = time.monotonic()
        self.total = self.done = self.failed = self.frames = 0
        self.decode_wait = self.encode = self.write = 0.0

    def start(self, plan: ExtractionPlan) -> None:
        """Begins to count."""
        self.begin = time.monotonic()
        self.total = len(plan.pending)

    def clip(self, done: ClipDone) -> None:
        """Counts a clip."""
        self.done += 1
        self.failed += not done.ok
        self.frames += done.frames

    def block(self, report: BlockReport) -> None:
        """Adds up the waits."""
        self.decode_wait += report.decode_wait
        self.encode += report.encode
        self.write += report.write

    @property
    def seconds(self) -> float:
        """Wall-clock time since the begin."""
        return time.monotonic() - self.begin

    @property
    def left(self) -> int:
        """Clips that are neither done nor failed."""
        return max(self.total - self.done, 0)

    @property
    def frames_per_second(self) -> float:
        """Mean since the begin."""
        return self.frames / max(self.seconds, 1e-9)

    @property
    def shares(self) -> dict[str, float]:
        """Where the blocks' time went: shares of decoder, encoder and disk, that add up to 1."""
        spent = {"decoder": self.decode_wait, "encoder": self.encode, "disk": self.write}
        total = max(sum(spent.values()), 1e-9)
        return {name: seconds / total for name, seconds in spent.items()}

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the mean pace; None before the first clip."""
        return self.seconds / self.done * self.left if self.done else None

    @property
    def text(self) -> str:
        """One line without the number of clips."""
        return f"{self.failed} failed, {self.frames_per_second:.0f} frames/s; {self.waits}"

    @property
    def waits(self) -> str:
        """Where the blocks' time went, in words."""
        shares = ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items())
        return f"waiting for {shares}"

    @property
    def remaining(self) -> str:
        """The time left, in words."""
        return "unknown" if self.eta_s is None else duration(self.eta_s)


def duration(seconds: float) -> str:
    """Returns hours, minutes and seconds, with days where there are any."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f"{hour:02}:{minute:02}:{second:02}"
    return f"{days} d {clock}" if days else clock
