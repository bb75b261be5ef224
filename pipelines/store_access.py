"""How this machine reads feature stores: with copies of remote ones, or around the page cache.

What it reads does not depend on this, so that it is said in the environment and not in a run.
"""

import os
from typing import Final

from cache_schema import FeatureStore, InputError, open_store
from cache_schema.storage.storage import is_url

FOLDER: Final = "VIDEODISTILL_CACHE"
"""Folder for copies of what is read from stores at URLs; without it, each epoch crosses the network."""

LIMIT_GIB: Final = "VIDEODISTILL_CACHE_GIB"
"""About how much that folder may hold; no limit by default."""

DIRECT: Final = "VIDEODISTILL_DIRECT"
"""1: read local stores around the page cache, for those far larger than memory."""


def open_for_training(location: str | os.PathLike[str]) -> FeatureStore:
    """Open a store in the way that this machine's environment asks for.

    Raises:
        InputError: the environment says what cannot be.
        StoreAbsent: as `open_store`, and its other errors.
    """
    direct = os.environ.get(DIRECT, "0")
    if direct not in {"0", "1"}:
        raise InputError(f"{DIRECT} is {direct!r}; it must be 1, or 0 for no direct reads.")
    if not is_url(location):
        return open_store(location, direct=direct == "1")
    folder = os.environ.get(FOLDER)
    return (
        open_store(location, cache=folder, cache_bytes=_limit()) if folder else open_store(location)
    )


def _limit() -> int | None:
    told = os.environ.get(LIMIT_GIB)
    try:
        return int(float(told) * 2**30) if told else None
    except (ValueError, OverflowError) as error:
        raise InputError(f"{LIMIT_GIB} is {told!r}; it must be a number of GiB, as 200.") from error
