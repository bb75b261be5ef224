"""Pictures to the encoder's device and features back, while the device works on something else."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class PendingFeatures(Protocol):
    """Features that are being made."""

    def wait(self) -> Tensor:
        """Returns them, on the CPU."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    features: Tensor

    def wait(self) -> Tensor:
        return self.features


@dataclass(frozen=True, slots=True, eq=False)
class _OnTheWay:
    features: Tensor
    arrived: torch.cuda.Event

    def wait(self) -> Tensor:
        self.arrived.synchronize()
        return self.features


class FrameTransfer:
    """Brings batches to a device, runs a function there, and brings the result back.

    On a CUDA device the pictures go up on one stream and the features come down on another, out of
    and into pinned memory: while one batch is computed, the next one and the last one travel. On
    any other device ``start`` returns when the result is there.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if device.type == "cuda":
            self._streams = (_stream(device), _stream(device))

    def start(self, pixels: Tensor, run: Callable[[Tensor], Tensor]) -> PendingFeatures:
        """Starts on a batch.

        Args:
            pixels: the batch, on the CPU.
            run: what to do with it on the device; called once, before ``start`` returns.
        """
        if self._streams is None:
            return _Ready(run(pixels.to(self._device)).cpu())
        up, down = self._streams
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(up):
            batch = pixels.pin_memory().to(self._device, non_blocking=True)
        computing.wait_stream(up)
        # The allocator must not give this memory away before the other stream is done with it.
        batch.record_stream(computing)
        features = run(batch)
        down.wait_stream(computing)
        with torch.cuda.stream(down):
            arriving = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
            arriving.copy_(features, non_blocking=True)
            features.record_stream(down)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(down)
        return _OnTheWay(arriving, arrived)


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
