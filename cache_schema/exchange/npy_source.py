"""Folders of .npy files, one per clip, as clip-video-encode and video_features write them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from cache_schema.clip import clip_id_rule
from cache_schema.errors import InputError
from cache_schema.exchange.feature_source import (
    SourceClip,
    SourceSizes,
    UnusableClip,
    require_floats,
)
from cache_schema.identity import FeatureIdentity
from cache_schema.outcome import one_line

NpyLayout = Literal["clip-video-encode", "video-features"]
"""``<id>.npy`` beside an optional ``<id>.json``; ``<id>_clip.npy`` beside ``_timestamps_ms.npy``."""

_SUFFIX: Final = ".npy"
_LONGEST_JSON: Final = 1 << 20
_BESIDE: Final = ("fps", "timestamps_ms")

Header = tuple[tuple[int, ...], np.dtype[np.generic]]


class NpyFolder:
    """A folder of arrays [T, D], or [T, 1 + P, D] with the frame's own vector first.

    A clip's id is its file's name below the folder without the ending. Links are followed only to
    files of the same folder. Python objects in a file are never loaded.

    Args:
        folder: the folder.
        layout: how files are named.
        key: what stands before ``.npy`` in video_features' names: its feature type.

    Raises:
        InputError: there is no such folder, or nothing in it has such a name.
    """

    def __init__(self, folder: Path, layout: NpyLayout, *, key: str = "clip") -> None:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}.")
        self._folder = folder
        self._timed = layout == "video-features"
        self._ending = f"_{key}{_SUFFIX}" if self._timed else _SUFFIX
        self._files: dict[str, Path] = {}
        self._refused: dict[str, str] = {}
        for file in sorted(folder.rglob(f"*{self._ending}")):
            self._add(file)
        if not self._files and not self._refused:
            raise InputError(
                f"{folder} holds no files called <id>{self._ending}; check the path and the layout."
            )

    @property
    def clip_ids(self) -> Sequence[str]:
        """The clips, in the order of their files' names."""
        return list(self._files)

    @property
    def refused(self) -> Mapping[str, str]:
        """Files whose names cannot be ids, or that lead elsewhere."""
        return self._refused

    @property
    def identity(self) -> FeatureIdentity | None:
        """None: these files do not say what made them."""
        return None

    @cached_property
    def sizes(self) -> SourceSizes:
        """Sizes of the first clip whose file can be read, and whether all have its frames.

        Raises:
            InputError: no file can be read.
        """
        shapes = [shape for clip_id in self._files if (shape := self._shape(clip_id)) is not None]
        if not shapes:
            raise InputError(
                f"None of the {len(self._files)} files in {self._folder} holds features [T, D] or "
                f"[T, 1 + P, D] of floating-point numbers."
            )
        return SourceSizes.of_shapes(shapes)

    def read(self, clip_id: str) -> SourceClip:
        """Returns a clip's features.

        Raises:
            UnusableClip: its file is no such array, or the files beside it contradict it.
        """
        file = self._files[clip_id]
        shape, dtype = _header(file)
        require_floats(shape, dtype)
        if len(shape) not in {2, 3}:
            raise UnusableClip("wrong_shape", f"has shape {shape}, not [T, D] or [T, 1 + P, D]")
        features = _load(file)
        tokens = features if features.ndim == 3 else features[:, None]
        try:
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16))
        except OSError as error:
            raise UnusableClip("unreadable", str(error.strerror)) from error
        return SourceClip(
            cls=tokens[:, 0],
            patch=tokens[:, 1:],
            frame_time=self._frame_time(file, len(tokens)) if self._timed else None,
            path=file.relative_to(self._folder).as_posix(),
            size=file.stat().st_size,
            digest=digest.hexdigest(),
            flags=self._flags(file),
        )

    def close(self) -> None:
        """Does nothing: no file stays open."""

    def _add(self, file: Path) -> None:
        relative = file.relative_to(self._folder).as_posix()
        clip_id = relative.removesuffix(self._ending)
        shown = one_line(relative)
        if not self._timed and clip_id.endswith(tuple(f"_{name}" for name in _BESIDE)):
            self._refused[shown] = "belongs to video_features' layout; import it as video-features"
        elif problem := clip_id_rule(clip_id):
            self._refused[shown] = f"its name cannot be a clip id: it {problem}"
        elif not file.resolve().is_relative_to(self._folder.resolve()):
            self._refused[shown] = "is a link that leaves the folder"
        else:
            self._files[clip_id] = file

    def _shape(self, clip_id: str) -> tuple[int, ...] | None:
        try:
            shape, dtype = _header(self._files[clip_id])
            require_floats(shape, dtype)
        except UnusableClip:
            return None
        return shape if len(shape) in {2, 3} else None

    def _frame_time(self, file: Path, frames: int) -> npt.NDArray[np.float64] | None:
        beside = self._beside(file, "timestamps_ms")
        if not beside.exists():
            return None
        times = _load(beside).astype(np.float64) / 1000
        if times.shape != (frames,):
            what = f"{beside.name} has shape {times.shape} beside {frames} frames"
            raise UnusableClip("wrong_shape", what)
        if not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise UnusableClip("wrong_times", f"{beside.name} is not finite, or goes backwards")
        return times

    def _flags(self, file: Path) -> tuple[str, ...]:
        flags = []
        if self._timed and (beside := self._beside(file, "fps")).exists():
            rate = _load(beside)
            if rate.size == 1:
                flags.append(f"extracted at {float(rate.reshape(-1)[0]):.6g} frames a second")
        metadata = file.with_suffix(".json")
        if not self._timed and metadata.is_file():
            flags.append(_metadata(metadata))
        return tuple(flags)

    def _beside(self, file: Path, name: str) -> Path:
        return file.with_name(f"{file.name.removesuffix(self._ending)}_{name}{_SUFFIX}")


def _header(file: Path) -> Header:
    """Reads what a file says of its array, without its values.

    Raises:
        UnusableClip: it is no array, or one of Python objects.
    """
    try:
        with file.open("rb") as content:
            version = np.lib.format.read_magic(content)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read is None:
                raise UnusableClip("not_npy", f"is an .npy file of version {version}")
            shape, _, dtype = read(content)
    except (OSError, ValueError) as error:
        raise UnusableClip("not_npy", f"cannot be read as .npy: {error}") from error
    if dtype.hasobject:
        raise UnusableClip("object_array", "holds pickled Python objects, which are never loaded")
    return shape, dtype


def _load(file: Path) -> npt.NDArray[np.floating]:
    """Loads an array of numbers; Python objects are refused by the header, and by numpy again.

    Raises:
        UnusableClip: it is none, or shorter than its header says.
    """
    _header(file)
    try:
        with file.open("rb") as content:
            return np.lib.format.read_array(content, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UnusableClip("unreadable", f"{file.name}: {error}") from error


def _metadata(file: Path) -> str:
    if file.stat().st_size > _LONGEST_JSON:
        return f"metadata of {file.stat().st_size} bytes were not read"
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        return f"metadata are not JSON: {error}"
    return f"metadata: {json.dumps(document, sort_keys=True)}"
