"""What a worker is told about a job, and what it tells back; cheap to load in the job's process."""

from dataclasses import dataclass
from pathlib import Path

from extract.encoder_spec import EncoderSpec
from extract.frame_request import Backend
from extract.limits import DecodeLimits


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockSettings:
    """What every worker of a job must know."""

    location: str
    """Absolute path or URL of the store."""
    spec: EncoderSpec
    frames: int
    limits: DecodeLimits
    backend: Backend
    root: Path | None
    """Folder of the videos; their paths are recorded relative to it."""
    follow_links: bool
    """Whether the videos may lie anywhere, links followed, instead of below the root."""
    extra_roots: tuple[Path, ...]
    """Further folders that may hold them."""
    job: str
    decoders: int
    """Decode processes of a worker."""
    encoders: int
    """Blocks of a worker that may encode at once, each on one thread of a CPU."""
    batch_frames: int
    pool: tuple[int, int] | None
    """Rows and columns that patches are averaged to."""
    int8: bool
    """Whether patches are kept as int8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipDone:
    """News of one clip, for the display."""

    clip_id: str
    ok: bool
    frames: int
    """Frames encoded for it; repeated ones are not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockReport:
    """Where the time of one block went. What became of its clips stands in the store."""

    clip_ids: tuple[str, ...]
    """Clips that were committed; empty if the block was in other hands."""
    frames: int = 0
    decode_wait: float = 0.0
    """Seconds without a picture to encode."""
    encode: float = 0.0
    """Seconds in the encoder, the wait for its turn included."""
    write: float = 0.0
    """Seconds of writing, verifying and committing."""
    batch_limit: int | None = None
    """Pictures encoded at once since the device's memory was short; None if it never was."""
