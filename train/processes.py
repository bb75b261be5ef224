"""The processes that train one model together, as torchrun starts them; a run alone is one of one.

Each holds the whole model and computes some parts of every step's batch. Why their gradients are
added up by one plain all-reduce is told in `docs/adr/0007-data-parallel.md`.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor

from cache_schema.errors import InputError, VideoDistillError

# The others wait for as long as the first one validates; torchrun notices at once who has died.
_PATIENCE: Final = timedelta(hours=12)


class ProcessLost(VideoDistillError):  # noqa: N818 - says what is the case
    """Another of the run's processes has ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """This process among those of a run."""

    rank: int = 0
    """Its number, from 0."""
    count: int = 1
    """How many there are."""

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, validates and shows progress."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type, in place, by their sums over all processes.

        Raises:
            ProcessLost: another one has ended.
        """
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        with self._together():
            dist.all_reduce(flat)
        sums = flat.split_with_sizes([tensor.numel() for tensor in tensors])
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total.view_as(tensor))

    def from_first(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, in place, by those of the first process.

        Raises:
            ProcessLost: another one has ended.
        """
        if self.count == 1:
            return
        with self._together():
            for tensor in tensors:
                whole = tensor.contiguous()
                dist.broadcast(whole, 0)
                tensor.copy_(whole)

    def told(self, number: float) -> float:
        """Return the number that the first process gives; what the others give is not looked at."""
        told = torch.tensor(number, dtype=torch.float64)
        self.from_first([told])
        return told.item()

    def gathered(self, text: str) -> list[str]:
        """Return every process's text, in the order of their numbers.

        Raises:
            ProcessLost: another one has ended.
        """
        mine = text.encode()
        size = torch.zeros(self.count, dtype=torch.int64)
        size[self.rank] = len(mine)
        self.add_up([size])
        room = torch.zeros(self.count, int(size.max()), dtype=torch.uint8)
        room[self.rank, : len(mine)] = torch.tensor(list(mine), dtype=torch.uint8)
        self.add_up([room])
        return [
            bytes(row[:length].tolist()).decode()
            for row, length in zip(room, size.tolist(), strict=True)
        ]

    def require_same(self, what: str, value: str) -> None:
        """Refuse to go on where processes see different things.

        Raises:
            InputError: naming what each sees.
            ProcessLost: another one has ended.
        """
        seen = self.gathered(value)
        if len(set(seen)) > 1:
            found = "; ".join(f"process {rank}: {value}" for rank, value in enumerate(seen))
            raise InputError(
                f"The processes of this run see different {what} ({found}). Give all of them one "
                "store and one run folder, on storage that all machines share."
            )

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises has no narrower type on gloo
            raise ProcessLost(
                f"process {self.rank} of {self.count} lost the others ({str(error).splitlines()[0]}). "
                "The one that failed says why; the same command goes on from the last checkpoint."
            ) from error


ALONE: Final = Processes()
"""One process, which shares its work with nobody."""


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that torchrun has started; without torchrun there is just this one.

    Tensors on a GPU are added up by NCCL, all others by gloo. With GPUs, `cuda` is from here on the
    GPU of this process's number on its machine. NCCL is not run by the tests.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Processes(rank=dist.get_rank(), count=dist.get_world_size())
    finally:
        dist.destroy_process_group()
