"""Memory that batches of features are read into, again and again, on the host and on the device.

Shapes: C = clips, N = frames, P = patches, D = feature width.
"""

import contextlib

import numpy as np
import torch
from torch import Tensor

from cache_schema.identity import FeatureIdentity


def reusable(shape: tuple[int, ...], device: torch.device, *, pinned: bool = False) -> Tensor:
    """Return an empty float16 tensor that any thread may write to at any time."""
    # Evaluation runs in inference mode, whose tensors other threads could not write to.
    with torch.inference_mode(False):
        if device.type == "cpu" and not pinned:
            # NumPy asks for huge pages: the first writing costs a third, all later ones 7 % less.
            return torch.from_numpy(np.empty(shape, np.float16))
        return torch.empty(shape, dtype=torch.float16, device=device, pin_memory=pinned)


class BatchMemory:
    """Room for the features of one batch.

    On a CPU the model reads what was read from the store. Elsewhere there is a second copy, on the
    device; with CUDA the first is pinned, and copied on a stream of its own while the model computes
    on another batch. Not run on a GPU here.

    Attributes:
        cls: float16 [C, N, D] on the device.
        patch: float16 [C, N, P, D] on the device.
        read_cls: what `cls` is copied from, on the host; the same tensor on a CPU.
        read_patch: what `patch` is copied from.
    """

    def __init__(
        self, identity: FeatureIdentity, clips: int, device: torch.device, *, patches: bool = True
    ) -> None:
        cls = (clips, identity.frames, identity.dim)
        patch = (clips, identity.frames, identity.patches if patches else 0, identity.dim)
        host, cuda = torch.device("cpu"), device.type == "cuda"
        self.read_cls = reusable(cls, host, pinned=cuda)
        self.read_patch = reusable(patch, host, pinned=cuda)
        self.cls, self.patch = self.read_cls, self.read_patch
        if device.type != "cpu":
            self.cls, self.patch = reusable(cls, device), reusable(patch, device)
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        self._left = torch.cuda.Event() if cuda else None  # type: ignore[no-untyped-call]
        # The caller's stream may still use what the allocator had in this place before.
        self.leave()

    def enter(self) -> None:
        """Wait, before reading into it anew, until what was read before has been copied."""
        if self._stream is not None and self._left is not None:
            self._stream.synchronize()
            self._stream.wait_event(self._left)

    def copying(self) -> contextlib.AbstractContextManager[object]:
        """What the device does in this context it does beside the model's work."""
        return contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def copy_to_device(self, clips: slice) -> None:
        """Copy some clips that were read; call it in `copying`."""
        if self.cls is not self.read_cls:
            beside = self._stream is not None  # elsewhere nothing would wait for the copies' end
            self.cls[clips].copy_(self.read_cls[clips], non_blocking=beside)
            self.patch[clips].copy_(self.read_patch[clips], non_blocking=beside)

    def hand_over(self) -> None:
        """Let the caller's work on the device wait for the copies."""
        if self._stream is not None:
            torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def leave(self) -> None:
        """Let the next copies into it wait for the caller's work up to here."""
        if self._stream is not None and self._left is not None:
            self._left.record(torch.cuda.current_stream(self._stream.device))

    def abandon(self) -> None:
        """Leave it in the middle of an order: copies that were begun end before anything else."""
        self.leave()
        if self._stream is not None:
            self._stream.synchronize()
