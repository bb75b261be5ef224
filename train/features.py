"""Where features come from: the store, a copy in memory, or a video that shows nothing."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache_schema.identity import FeatureIdentity
from train.batch_memory import reusable

VisualInput = Literal["real", "static", "noise"]
Half = NDArray[np.float16]

_CLIPS_PER_READ = 8


class FeatureReader(Protocol):
    """What training needs of a feature store; `cache_schema`'s FeatureStore is one."""

    @property
    def identity(self) -> FeatureIdentity:
        """What the features are."""

    @property
    def version(self) -> int:
        """The manifest version that is read."""

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips that have features."""

    def read_cls(self, clip_ids: Sequence[str], out: Half | None = None) -> Half:
        """CLS features [B, N, D] of B clips, written into `out` where given."""

    def read_patches(
        self,
        clip_ids: Sequence[str],
        frames: NDArray[np.int64] | None = None,
        out: Half | None = None,
    ) -> Half:
        """Patch features [B, N, P, D], or [B, K, P, D] of the frames [B, K]."""

    def frame_times(self, clip_id: str) -> NDArray[np.float64]:
        """Presentation time of every frame [N], in seconds."""


class ResidentFeatures:
    """A copy of some clips' features in memory, the host's or a device's, for runs that fit there.

    A copy on a GPU spares the run every transfer to it; not run on one here.

    Args:
        reader: what is copied.
        clip_ids: the clips.
        device: where the copy is.
    """

    def __init__(
        self,
        reader: FeatureReader,
        clip_ids: Sequence[str],
        device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
    ) -> None:
        self.device = device
        self._reader = reader
        self._row = {clip_id: row for row, clip_id in enumerate(dict.fromkeys(clip_ids))}
        rows, identity = list(self._row), reader.identity
        cls = (len(rows), identity.frames, identity.dim)
        patch = (len(rows), identity.frames, identity.patches, identity.dim)
        self._cls, self._patch = reusable(cls, device), reusable(patch, device)
        for start in range(0, len(rows), _CLIPS_PER_READ):
            part = slice(start, start + _CLIPS_PER_READ)
            self._cls[part] = torch.from_numpy(reader.read_cls(rows[part])).to(device)
            self._patch[part] = torch.from_numpy(reader.read_patches(rows[part])).to(device)
        if device.type == "cuda":
            # Batches take from it on streams of their own, which know nothing of this one.
            torch.cuda.current_stream(device).synchronize()

    @property
    def identity(self) -> FeatureIdentity:
        """What the features are."""
        return self._reader.identity

    @property
    def version(self) -> int:
        """The manifest version that was copied."""
        return self._reader.version

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips copied."""
        return list(self._row)

    def take_cls(self, clip_ids: Sequence[str], out: Tensor) -> None:
        """Copy CLS features [B, N, D] of B clips into a tensor on the same device."""
        torch.index_select(self._cls, 0, self._rows(clip_ids), out=out)

    def take_patches(
        self, clip_ids: Sequence[str], out: Tensor, frames: Tensor | None = None
    ) -> None:
        """Copy patch features [B, N, P, D], or [B, K, P, D] of the frames [B, K], likewise."""
        rows = self._rows(clip_ids)
        if frames is None:
            torch.index_select(self._patch, 0, rows, out=out)
            return
        place = rows[:, None] * self.identity.frames + frames
        out_FPD = out.view(-1, *out.shape[2:])
        torch.index_select(self._patch.flatten(0, 1), 0, place.flatten(), out=out_FPD)

    def read_cls(self, clip_ids: Sequence[str], out: Half | None = None) -> Half:
        """CLS features [B, N, D] of B clips, on the host."""
        shape = (len(clip_ids), *self._cls.shape[1:])
        return self._on_host(shape, out, partial(self.take_cls, clip_ids))

    def read_patches(
        self,
        clip_ids: Sequence[str],
        frames: NDArray[np.int64] | None = None,
        out: Half | None = None,
    ) -> Half:
        """Patch features [B, N, P, D], or [B, K, P, D] of the frames [B, K], on the host."""
        if frames is None:
            shape = (len(clip_ids), *self._patch.shape[1:])
            return self._on_host(shape, out, partial(self.take_patches, clip_ids))
        chosen = torch.from_numpy(frames).to(self.device)
        shape = (*frames.shape, *self._patch.shape[2:])
        return self._on_host(shape, out, partial(self.take_patches, clip_ids, frames=chosen))

    def frame_times(self, clip_id: str) -> NDArray[np.float64]:
        """Presentation time of every frame [N], in seconds."""
        return self._reader.frame_times(clip_id)

    def _on_host(
        self, shape: tuple[int, ...], out: Half | None, take: Callable[[Tensor], None]
    ) -> Half:
        """What `take` copies, in `out` where there is one; a copy in the host's memory goes straight."""
        half = np.empty(shape, np.float16) if out is None else out
        host = torch.from_numpy(half)
        if self.device.type == "cpu":
            take(host)
        else:
            taken = torch.empty_like(host, device=self.device)
            take(taken)
            host.copy_(taken)
        return half

    def _rows(self, clip_ids: Sequence[str]) -> Tensor:
        return torch.tensor([self._row[clip_id] for clip_id in clip_ids], device=self.device)


class ConstantFeatures:
    """The same features for every clip: the paper's language-only test (Table 3, Appendix E).

    `static` shows one real clip in place of all; `noise` shows Gaussian noise with the mean and
    deviation that each dimension has in that clip, drawn once.
    """

    def __init__(
        self, reader: FeatureReader, clip_id: str, visual: Literal["static", "noise"]
    ) -> None:
        self._reader = reader
        self._cls = reader.read_cls([clip_id])[0]
        self._patch = reader.read_patches([clip_id])[0]
        if visual == "noise":
            generator = np.random.default_rng(0)
            self._cls = _noise_like(self._cls, generator)
            self._patch = _noise_like(self._patch, generator)

    @property
    def identity(self) -> FeatureIdentity:
        """What the features replace."""
        return self._reader.identity

    @property
    def version(self) -> int:
        """The manifest version that the clips are taken from."""
        return self._reader.version

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips that the questions ask about, none of which is shown."""
        return self._reader.clip_ids

    def read_cls(self, clip_ids: Sequence[str], out: Half | None = None) -> Half:
        """CLS features [B, N, D], the same for all B clips."""
        return _filled(np.broadcast_to(self._cls, (len(clip_ids), *self._cls.shape)), out)

    def read_patches(
        self,
        clip_ids: Sequence[str],
        frames: NDArray[np.int64] | None = None,
        out: Half | None = None,
    ) -> Half:
        """Patch features [B, N, P, D] or, of the frames [B, K], [B, K, P, D]."""
        if frames is not None:
            return _filled(self._patch[frames], out)
        return _filled(np.broadcast_to(self._patch, (len(clip_ids), *self._patch.shape)), out)

    def frame_times(self, clip_id: str) -> NDArray[np.float64]:
        """Presentation times of the clip that the question is about."""
        return self._reader.frame_times(clip_id)


def shown(reader: FeatureReader, visual: VisualInput) -> FeatureReader:
    """Return the features that a run sees; without the video, its first clip by name is the one."""
    if visual == "real":
        return reader
    return ConstantFeatures(reader, min(reader.clip_ids), visual)


def feature_bytes(identity: FeatureIdentity, clips: int, *, patches: bool = True) -> int:
    """Bytes that the float16 features of a number of clips take, with or without their patches."""
    tokens = 1 + identity.patches * patches
    return clips * identity.frames * tokens * identity.dim * 2


def _filled(values: Half, out: Half | None) -> Half:
    """`values`, copied into `out` where there is one."""
    if out is None:
        return values
    np.copyto(out, values)
    return out


def _noise_like(features: Half, generator: np.random.Generator) -> Half:
    """Gaussian noise with the mean and deviation of every dimension (the last axis)."""
    wide = features.astype(np.float64).reshape(-1, features.shape[-1])
    noise = generator.standard_normal(features.shape) * wide.std(0) + wide.mean(0)
    half: Half = noise.astype(np.float16)
    return half
