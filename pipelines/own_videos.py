"""Clips out of videos, folders of videos and clip lists that belong to no data set."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache_schema import Clip, InputError, SchemaError, read_clips

VIDEO_SUFFIXES: Final = frozenset(
    [
        ".3g2",
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    ]
)
"""What is taken for a video in a folder; a video that is named itself may end as it likes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnVideos:
    """Clips, and where their files may lie."""

    clips: tuple[Clip, ...]
    root: Path
    """Folder that holds everything that was named; paths are recorded relative to it."""
    extra_roots: tuple[Path, ...]
    """Folders that the named paths lead into where they are links."""


def own_videos(paths: Sequence[Path], *, follow_links: bool = False) -> OwnVideos:
    """Makes clips of what a person names.

    A video is a clip of its own, whose id is its path without the suffix: relative to the folder
    that was named, or just the name where the video itself was. Two that would get the same id
    keep their suffix, and the folders below the common root. Lists (``clip_id,path,start_s,end_s``,
    paths relative to the list) bring their own ids. Names that begin with a dot are passed over in
    folders.

    Args:
        paths: videos, folders and .csv lists that exist.
        follow_links: whether linked folders below a named one are entered.

    Raises:
        InputError: a folder holds no video, a list is broken, or an id is taken twice.
        SchemaError: a name cannot be an id.
    """
    absolute = [path.absolute() for path in paths]
    folders = [path if path.is_dir() else path.parent for path in absolute]
    root = Path(os.path.commonpath(folders))
    listed: list[Clip] = []
    found: dict[Path, str] = {}
    for path in absolute:
        if path.is_dir():
            videos = list(_videos_below(path, follow_links))
            if not videos:
                raise InputError(
                    f"There is no video below {path}: none of its files ends in "
                    f"{', '.join(sorted(VIDEO_SUFFIXES))}."
                )
            for video in videos:
                found.setdefault(video, _id_of(video.relative_to(path).with_suffix("")))
        elif path.suffix.lower() == ".csv":
            listed += _listed(path)
        else:
            found.setdefault(path, _id_of(Path(path.stem)))
    taken = Counter(found.values())
    clips = [
        Clip(clip_id=name if taken[name] == 1 else _id_of(video.relative_to(root)), path=video)
        for video, name in found.items()
    ]
    links = {path.resolve() for path in absolute}
    return OwnVideos(
        clips=(*_all_different(listed, clips),),
        root=root,
        extra_roots=tuple(sorted(p if p.is_dir() else p.parent for p in links)),
    )


def _listed(path: Path) -> list[Clip]:
    try:
        return read_clips(path, path.parent)
    except SchemaError as error:
        raise InputError(str(error)) from error


def _videos_below(folder: Path, follow_links: bool) -> Iterator[Path]:
    """Yields the videos of a folder and those below, by name; a loop of links is entered once."""
    entered = set[Path]()
    for place, inner, files in os.walk(folder, followlinks=follow_links):
        real = Path(place).resolve()
        if real in entered:
            inner.clear()
            continue
        entered.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in VIDEO_SUFFIXES:
                yield Path(place, name)


def _id_of(relative: Path) -> str:
    """A name may hold what an id may not, such as a line break or bytes that are no UTF-8."""
    return "".join(
        letter if letter.isprintable() else "".join(f"%{byte:02X}" for byte in os.fsencode(letter))
        for letter in relative.as_posix()
    )


def _all_different(listed: Sequence[Clip], clips: Sequence[Clip]) -> list[Clip]:
    together = [*listed, *clips]
    twice = [name for name, count in Counter(c.clip_id for c in together).items() if count > 1]
    if twice:
        raise InputError(
            f"The clip id {twice[0]!r} comes twice, out of lists or a list and a video: ids of "
            "lists are theirs. Extract them into two stores, or change the list."
        )
    return together
