"""How much room there is where a store is to be written."""

import os
import shutil
from pathlib import Path

from cache_schema.storage.storage import is_url


def bytes_free(location: str | os.PathLike[str]) -> int | None:
    """Returns the free bytes of the disk that holds, or would hold, a location; None for a URL."""
    if is_url(location):
        return None
    path = Path(location).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
