"""Whether the device that a run names can be used here, before anything is read or written."""

import torch

from cache_schema.errors import InputError


def require_device(name: str) -> None:
    """Refuse a device that torch does not know, or that this machine cannot offer.

    Raises:
        InputError: saying why, and what else there is.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ImportError) as error:  # torch has no type for it
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device is {name!r}, which torch cannot use here ({reason}). Give one that this machine has: "
            "--set device=cpu, cuda, cuda:1, xpu or mps. A run is asked on the kind of device that it was "
            "trained on."
        ) from error
