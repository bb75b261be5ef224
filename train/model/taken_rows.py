"""Rows of learned features, each as often as it is asked for, with a gradient that does not vary.

Shapes: R = rows, I = places that rows are taken to.
"""

import torch.nn.functional as F
from torch import Tensor


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """Return `x[index]`; on a CPU, its gradient is the same bits in every run.

    Args:
        x: [R, ...], with or without gradient.
        index: int64 [I, ...], rows of `x`.
    """
    # The backward of indexing adds up the places of one row in the order in which threads come to
    # them (from 32,768 numbers on); that of an embedding adds them in the order of the index.
    return F.embedding(index, x.flatten(1)).reshape(*index.shape, *x.shape[1:])
