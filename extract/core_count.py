"""How many cores there are to work on."""

import os


def cores_here() -> int:
    """Returns the cores that this process may use, not those of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
