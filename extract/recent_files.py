"""What was learnt of the last few files, for as long as they stay as they are."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

FileMark: TypeAlias = tuple[int, int, int, int, int]
"""Device, inode, size, and nanoseconds of the last change of content and of the entry."""

Learnt = TypeVar("Learnt")


class RecentFiles(Generic[Learnt]):
    """A bounded memory: many clips may be cut from one long video, which is looked at once.

    Args:
        most: files that are remembered.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._learnt: OrderedDict[FileMark, Learnt] = OrderedDict()

    def of(self, mark: FileMark, learn: Callable[[], Learnt]) -> Learnt:
        """Returns what is known of a file, after ``learn`` if nothing is; its errors pass."""
        found = self._learnt.pop(mark) if mark in self._learnt else learn()
        self._learnt[mark] = found
        if len(self._learnt) > self._most:
            self._learnt.popitem(last=False)
        return found
