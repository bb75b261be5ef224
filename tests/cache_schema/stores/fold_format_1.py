"""Made the manifest of the store ``format-1`` anew, once, when manifests got parts.

Its claims, commits and features stayed as the first version wrote them. The manifest that it had before,
one Parquet file, is in ``earlier-manifest``: stores of that time are told to be compacted.
"""

import sys
from pathlib import Path

from cache_schema.manifest.manifest_fold import fold_commits
from cache_schema.store_root import read_root


def main(path: Path) -> None:
    for file in (path / "manifest").iterdir():
        file.unlink()
    fold_commits(read_root(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
