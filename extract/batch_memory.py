"""Batches cut in halves until the device's memory holds them."""

import logging
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

_LOG: Final = logging.getLogger(__name__)
# Allocators that do not raise torch's own exception: of the CPU, cuBLAS, cuDNN and other devices.
_SIGNS: Final = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


class BatchMemory:
    """Runs a function over batches, in equal parts that fit into memory.

    The size that once did not fit is not tried again. Parts are of one size, the last filled up
    with zeros: kernels are chosen by size, and a row's numbers must not depend on its company.
    """

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        self._run = run
        self.limit: int | None = None
        """Rows of a part; None as long as every batch fitted whole."""

    def __call__(self, rows: Tensor) -> Tensor:
        """Returns the function's result for rows [B, ...].

        Raises:
            RuntimeError: the function fails, or one row alone does not fit.
        """
        while True:
            size = min(len(rows), self.limit or len(rows))
            try:
                return self._in_parts(rows, size)
            except RuntimeError as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            # Outside the handler, whose traceback keeps the failed batch's tensors alive.
            self.limit = (size + 1) // 2
            _LOG.warning(
                "the device's memory does not hold %d pictures; encoding %d at once from here on",
                size,
                self.limit,
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _in_parts(self, rows: Tensor, size: int) -> Tensor:
        if size == len(rows):
            return self._run(rows)
        results = []
        for part in torch.split(rows, size):
            missing = size - len(part)
            filled = torch.cat([part, part.new_zeros(missing, *part.shape[1:])])
            results.append(self._run(filled)[: len(part)])
        return torch.cat(results)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Returns whether an error of torch says that memory is short."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    message = str(error).lower()
    return any(sign in message for sign in _SIGNS)
