"""What a job may be told beyond its clips, store and encoder."""

from dataclasses import dataclass, field
from pathlib import Path

from extract.frame_request import Backend
from extract.limits import DecodeLimits
from extract.slurm_options import SlurmOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class JobOptions:
    """What a job may be told beyond its clips, store and encoder."""

    root: Path | None = None
    """Folder that must hold the videos, links followed; paths are recorded relative to it."""
    extra_roots: tuple[Path, ...] = ()
    """Further folders that links below the root may lead into, such as a shared disk."""
    follow_links: bool = False
    """Whether links below the root may lead anywhere."""
    limits: DecodeLimits = field(default_factory=DecodeLimits)
    backend: Backend = "pyav"
    scheduler: str | None = None
    """Address of a running Dask scheduler; None for workers of this machine."""
    slurm: SlurmOptions | None = None
    """Jobs of a SLURM cluster to work in; None for none."""
    decoders: int | None = None
    """Decode processes of a worker; by default its share of the cores."""
    batch_frames: int | None = None
    """Frames encoded at once; by default at most 64 on a CPU and 256 on a GPU, such that clips of N
    frames fill batches. Another number may change the last bit of a feature."""
    failures: Path | None = None
    """Where to list failed clips; by default beside the store, or here if that is at a URL."""
    compact_every: int = 64
    """Blocks after which readers may see what is done so far."""
    grace_s: float = 25.0
    """Seconds that blocks in hand get to finish after a first Ctrl-C or SIGTERM."""
    pool: tuple[int, int] | None = None
    """Rows and columns that each frame's grid of patches is averaged to; the loss is measured."""
    int8: bool = False
    """Whether patches are kept as int8 with a scale per token; the loss is measured."""
