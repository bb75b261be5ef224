"""What a SLURM cluster is asked for: one job per worker node, as plain checked values."""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from cache_schema import InputError

# SLURM reads directives word by word: what holds blanks, quotes or line ends would be read as more
# than one value, or as a command of the script.
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:@%+=&|*\[\]/-]*")
_DIRECTIVE: Final = re.compile(r"--[a-z][a-z-]*(=[A-Za-z0-9_.,:@%+=&|*\[\]/-]+)?")
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9._+=/-]+")
_TIME: Final = re.compile(r"(?:(\d+)-)?(\d{1,3}):(\d{2})(?::(\d{2}))?")
_MEMORY: Final = re.compile(r"[1-9]\d*[MGT]")
_WORDS: Final = ("partition", "account", "qos", "interface")


@dataclass(frozen=True, kw_only=True, slots=True)
class SlurmOptions:
    """One kind of SLURM job, and how many of it.

    Raises:
        InputError: a value that SLURM, or the shell that runs the job, could read as something else.
    """

    jobs: int = 1
    """Jobs in the queue or running at any time; one that ends before the work does is replaced."""
    partition: str = ""
    account: str = ""
    qos: str = ""
    time: str = "08:00:00"
    """Wall-clock limit of a job: HH:MM:SS, or D-HH:MM:SS."""
    memory: str = "16G"
    """Memory of a job: M, G or T."""
    cores: int = 8
    """CPU cores of a job."""
    gpus: int = 0
    """GPUs of a job, with a worker process each; 0 for workers on the CPU."""
    interface: str = ""
    """Network interface that workers reach this machine by, as ib0; empty for the default one."""
    log_dir: str = "slurm-logs"
    """Folder for the jobs' output and the keys of their connection; all nodes must see it."""
    local_dir: str = ""
    """Scratch folder of a node, for what Dask puts aside."""
    extra: tuple[str, ...] = ()
    """Further directives, each as --name=value."""
    prologue: tuple[str, ...] = ()
    """Shell lines run before the worker, as 'module load cuda'. Your own; they are not checked."""

    def __post_init__(self) -> None:
        for name, least in (("jobs", 1), ("cores", 1), ("gpus", 0)):
            if getattr(self, name) < least:
                raise InputError(f"slurm {name} is {getattr(self, name)}; at least {least}.")
        if self.cores < self.gpus:
            raise InputError(f"slurm cores is {self.cores}, less than one for each GPU.")
        for name in _WORDS:
            value = getattr(self, name)
            if value and not _WORD.fullmatch(value):
                raise InputError(f"slurm {name} is {value!r}; a word without blanks is expected.")
        if _TIME.fullmatch(self.time) is None or not self.seconds:
            raise InputError(f"slurm time is {self.time!r}; HH:MM:SS or D-HH:MM:SS is expected.")
        if not _MEMORY.fullmatch(self.memory):
            raise InputError(f"slurm memory is {self.memory!r}; a number with M, G or T, as 16G.")
        for value in self.extra:
            if not _DIRECTIVE.fullmatch(value):
                raise InputError(f"slurm extra has {value!r}; --name=value without blanks, please.")
        if not self.local_dir.isprintable():
            raise InputError(f"slurm local_dir is {self.local_dir!r}, with a line break.")
        if not _PLAIN_PATH.fullmatch(str(self.log_folder)):
            raise InputError(
                f"slurm log_dir is {str(self.log_folder)!r}; SLURM and Dask need a path of letters, "
                "digits and ._-+=/ alone. Name another."
            )

    @property
    def log_folder(self) -> Path:
        """The folder of the logs, whatever the working folder of the jobs."""
        return Path(self.log_dir).absolute()

    @property
    def seconds(self) -> int:
        """The wall-clock limit in seconds."""
        found = _TIME.fullmatch(self.time)
        days, hours, minutes, seconds = (
            (int(part or 0) for part in found.groups()) if found else [0] * 4
        )
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    @property
    def processes(self) -> int:
        """Worker processes of a job."""
        return max(self.gpus, 1)

    @property
    def cores_per_process(self) -> int:
        """CPU cores of a worker process."""
        return self.cores // self.processes

    @classmethod
    def read(cls, file: Path | None = None, changes: Sequence[str] = ()) -> Self:
        """Reads a TOML file of these fields, and changes single ones.

        Args:
            file: the file; None for the defaults.
            changes: ``key=value`` each, over what the file says.

        Raises:
            InputError: the file cannot be read, or a key or value is not one of these.
        """
        values: dict[str, Any] = {}
        if file is not None:
            try:
                values = tomllib.loads(file.read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise InputError(f"The SLURM options in {file} cannot be read: {error}") from error
        for change in changes:
            key, equals, value = change.partition("=")
            if not equals:
                raise InputError(f"{change!r} is no change of a SLURM option; write key=value.")
            values[key] = value
        return cls(**_typed(cls, values))


def _typed(kind: type[SlurmOptions], values: Mapping[str, Any]) -> dict[str, Any]:
    """Checks keys, and turns text from the command line into numbers."""
    defaults = {entry.name: entry.default for entry in fields(kind)}
    typed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in defaults:
            close = difflib.get_close_matches(key, defaults, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise InputError(
                f"There is no SLURM option {key!r}.{hint} Known: {', '.join(defaults)}."
            )
        wanted = type(defaults[key])
        if wanted is int and isinstance(value, str) and value.isdecimal():
            typed[key] = int(value)
        elif wanted is tuple and isinstance(value, str):
            typed[key] = (value,)
        elif wanted is tuple and isinstance(value, list) and all(type(v) is str for v in value):
            typed[key] = tuple(value)
        elif type(value) is wanted:
            typed[key] = value
        else:
            raise InputError(f"The SLURM option {key} is {value!r}; {wanted.__name__} is expected.")
    return typed
