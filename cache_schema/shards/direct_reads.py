"""Reading files around the page cache, for stores that are far larger than memory."""

import mmap
import os
import threading

_PAGE = mmap.PAGESIZE


class _Aside(threading.local):
    """Memory that begins at a page, as such reads need it: one piece for every thread."""

    def __init__(self) -> None:
        self.room = mmap.mmap(-1, _PAGE)

    def at_least(self, size: int) -> memoryview:
        if len(self.room) < size:
            self.room = mmap.mmap(-1, size)
        return memoryview(self.room)[:size]


_aside = _Aside()


def read_directly(descriptor: int, start: int, size: int) -> memoryview:
    """Reads a part of a file that was opened with ``O_DIRECT``.

    Offsets, lengths and memory of such reads are multiples of a page, so the pages around the part are
    read into memory aside.

    Returns:
        The part, shorter where the file ends; valid until this thread's next call.
    """
    first = start // _PAGE * _PAGE
    span = -(-(start + size - first) // _PAGE) * _PAGE
    pages = _aside.at_least(span)
    done = 0
    while done < span:
        count = os.preadv(descriptor, [pages[done:]], first + done)
        done += count
        # A read that ends inside a page has come to the end of the file.
        if count == 0 or count % _PAGE:
            break
    return pages[start - first : min(start - first + size, done)]
