"""Copies of a remote store's shards on this machine, so that only the first epoch crosses the network."""

import os
from typing import Final

from cache_schema import FeatureStore, InputError, open_store
from cache_schema.storage.storage import is_url

FOLDER: Final = "VIDEODISTILL_CACHE"
"""Environment variable: the folder for copies. It belongs to the machine, not to a run."""

LIMIT_GIB: Final = "VIDEODISTILL_CACHE_GIB"
"""Environment variable: about how much the folder may hold; no limit by default."""


def open_nearby(location: str | os.PathLike[str]) -> FeatureStore:
    """Open a store; one at a URL with local copies of what is read, where the machine has a folder.

    Raises:
        InputError: the limit is no number.
        StoreAbsent: as `open_store`, and its other errors.
    """
    folder = os.environ.get(FOLDER)
    if not folder or not is_url(location):
        return open_store(location)
    limit = os.environ.get(LIMIT_GIB)
    try:
        cache_bytes = None if not limit else int(float(limit) * 2**30)
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{LIMIT_GIB} is {limit!r}; it must be a number of GiB, as 200."
        ) from error
    return open_store(location, cache=folder, cache_bytes=cache_bytes)
