"""Which device encodes: the one named, or the best that this machine has."""

import re
from typing import Final

from cache_schema import InputError

AUTOMATIC: Final = "auto"
_NAME: Final = re.compile(r"(cpu|mps|(cuda|xpu)(:\d{1,3})?)")


def chosen_device(name: str) -> str:
    """Returns a device as torch names it.

    Args:
        name: such a name, or ``auto``: a GPU if torch sees one, else the CPU. ``cuda`` without a
            number spreads local workers over all GPUs.

    Raises:
        InputError: no name of a device. Whether a named one is there is not asked: it may be in
            the machines of a scheduler.
    """
    if name == AUTOMATIC:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    if _NAME.fullmatch(name) is None:
        raise InputError(f"--device is {name!r}; it can be auto, cpu, cuda, cuda:1, xpu or mps.")
    return name
