"""Keep the memory that a training step frees for the next one, which needs as much again."""

import ctypes
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt, from its malloc.h
_KEPT: Final = 1 << 30  # bytes


def keep_freed_memory() -> bool:
    """Have the C library keep up to 1 GiB of freed memory instead of returning it at once.

    A step on a CPU allocates and frees some hundred tensors of megabytes. By default each of them
    is mapped anew, and the kernel clears it page by page when it is written: a tenth of the step.

    Returns:
        Whether the C library is one that can be told (glibc); elsewhere nothing changes.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return all(library.mallopt(option, _KEPT) for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
