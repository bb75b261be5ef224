"""Finds clips' video files where they lie under another ending than the owners' own."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from cache_schema import Clip

ENDINGS: Final = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts", ".gif")
"""Endings of video files, in the order in which they are preferred."""


def located(clips: Iterable[Clip]) -> list[Clip]:
    """The clips, each with the file that is there; a clip without a file keeps the expected path.

    Videos that were fetched again or converted often end in .webm or .mkv where their owners had
    .mp4: a file of the same name with another ending is taken.
    """
    folders: dict[Path, dict[str, str]] = {}
    found = []
    for clip in clips:
        folder = clip.path.parent
        if folder not in folders:
            folders[folder] = _video_names(folder)
        names = folders[folder]
        name = clip.path.name
        if name not in names and (other := names.get(clip.path.stem)) is not None:
            found.append(replace(clip, path=folder / other))
        else:
            found.append(clip)
    return found


def without_video(clips: Iterable[Clip]) -> list[Clip]:
    """The located clips whose file is not there."""
    there: dict[Path, bool] = {}
    missing = []
    for clip in clips:
        if clip.path not in there:
            there[clip.path] = clip.path.is_file()
        if not there[clip.path]:
            missing.append(clip)
    return missing


def _video_names(folder: Path) -> dict[str, str]:
    """File names of a folder by name, and by name without ending."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    by_name = {name: name for name in names}
    for ending in reversed(ENDINGS):
        by_name |= {name.removesuffix(ending): name for name in names if name.endswith(ending)}
    return by_name
