"""Which process owns something, and whether that process still lives."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache_schema import field_rules
from cache_schema.field_rules import Rule

OWNER_RULES: Final[Mapping[str, Rule]] = {
    "host": field_rules.text(empty=True),
    "pid": field_rules.integer(),
    "pid_start": field_rules.text(empty=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessOwner:
    """One process on one machine, told apart from a later process with the same number."""

    host: str
    """Host name, boot and process-number space: where ``pid`` means this process."""
    pid: int
    pid_start: str
    """When the process began, in the kernel's ticks since boot; empty where it cannot be read."""

    @classmethod
    def current(cls) -> "ProcessOwner":
        """Returns the calling process."""
        pid = os.getpid()
        start = _start_of(pid)
        return cls(host=_host(), pid=pid, pid_start=start or "")

    def is_alive(self) -> bool | None:
        """Tells whether the process lives; None where that cannot be told from here."""
        if not self.pid_start or self.host != _host():
            return None
        return _start_of(self.pid) == self.pid_start


def _host() -> str:
    # Two containers may share a host name, and a number then means two processes: the name space
    # of process numbers and the boot belong to the place.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return socket.gethostname()
    return f"{socket.gethostname()} {boot} {space}"


def _start_of(pid: int) -> str | None:
    """Returns when a process began, None if it is gone or this system does not tell.

    Field 22 of /proc/<pid>/stat, proc(5); field 2 is the program's name in brackets and may itself
    hold spaces and brackets.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    ended = fields[0] in {"Z", "X"}
    return None if ended else fields[19]
