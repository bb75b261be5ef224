"""Stopping a job in an orderly way."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once."""

    def __init__(self) -> None:
        self._asked_at: float | None = None

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self._asked_at is not None

    def expired(self, grace_s: float) -> bool:
        """Returns whether blocks in hand have had their time since the signal."""
        return self._asked_at is not None and time.monotonic() - self._asked_at > grace_s

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals over, where this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._receive) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self._asked_at is not None:
            raise KeyboardInterrupt
        self._asked_at = time.monotonic()
