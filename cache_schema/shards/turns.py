"""Who works at which place: one thread at a time, so that the others find its work done."""

import os
import threading
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager


class Turns:
    """Names that threads of this process hold; it survives a fork, which copies no thread."""

    def __init__(self) -> None:
        self._made = os.getpid(), threading.Condition(), set[str]()

    @contextmanager
    def hold(self, names: AbstractSet[str]) -> Iterator[None]:
        """Waits until no other thread holds any of the names, then holds them all."""
        if self._made[0] != os.getpid():
            # What the parent's threads held nobody would ever give back here.
            self._made = os.getpid(), threading.Condition(), set()
        _, changed, held = self._made
        with changed:
            changed.wait_for(lambda: held.isdisjoint(names))
            held |= names
        try:
            yield
        finally:
            with changed:
                held -= names
                changed.notify_all()
