"""Patches of the frames that a model has chosen, each read once however many questions share it.

Shapes: R = pairs of a text and a clip, N = frames, K = selected, P = patches, D = feature width,
U = different frames among those selected.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.batch_memory import reusable
from train.features import FeatureReader, ResidentFeatures


class SelectedFrames:
    """Reads selected frames into memory that is used again.

    Args:
        reader: where the features are.
        device: where the model wants them.
        threads: clips that are read at a time.
    """

    def __init__(self, reader: FeatureReader, *, device: torch.device, threads: int) -> None:
        self._reader = reader
        self._device = device
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="frame-reader")
        self._read = self._room(0, torch.device("cpu"))
        self._selected = self._room(0, device)

    def read(self, clip_ids: Sequence[str], frame_RK: NDArray[np.int64]) -> Tensor:
        """Read frames of R clips, of which some may be the same.

        Returns:
            float16 [R, K, P, D] on the device, valid until the next call.
        """
        identity = self._reader.identity
        if len(self._selected) < frame_RK.size:
            self._selected = self._room(frame_RK.size, self._device)
        selected = self._selected[: frame_RK.size]
        out_RKPD = selected.view(*frame_RK.shape, identity.patches, identity.dim)
        if isinstance(self._reader, ResidentFeatures) and self._reader.device == self._device:
            chosen = torch.from_numpy(frame_RK).to(self._device)
            self._reader.take_patches(clip_ids, out_RKPD, chosen)
            return out_RKPD
        names = list(dict.fromkeys(clip_ids))
        number = {name: place for place, name in enumerate(names)}
        clip_R = np.array([number[clip_id] for clip_id in clip_ids])
        numbered_RK = clip_R[:, None] * identity.frames + frame_RK
        wanted_U, place_RK = np.unique(numbered_RK, return_inverse=True)
        frame_UPD = self._read_once(names, wanted_U).to(self._device)
        place = torch.from_numpy(place_RK.reshape(-1)).to(self._device)
        torch.index_select(frame_UPD, 0, place, out=selected)
        return out_RKPD

    def _read_once(self, names: Sequence[str], wanted_U: NDArray[np.int64]) -> Tensor:
        """Read different frames, numbered clip after clip, into [U, P, D] on the host."""
        if len(self._read) < len(wanted_U):
            self._read = self._room(len(wanted_U), torch.device("cpu"))
        frame_UPD = self._read[: len(wanted_U)]
        clip_U, frame_U = np.divmod(wanted_U, self._reader.identity.frames)
        edges = np.searchsorted(clip_U, np.arange(len(names) + 1))

        def read(name: str, edge: tuple[int, int]) -> None:
            own = slice(*edge)
            self._reader.read_patches([name], frame_U[None, own], frame_UPD[None, own].numpy())

        for _ in self._pool.map(read, names, pairwise(edges.tolist())):
            pass
        return frame_UPD

    def _room(self, frames: int, device: torch.device) -> Tensor:
        identity = self._reader.identity
        pinned = device.type == "cpu" and self._device.type == "cuda"
        return reusable((frames, identity.patches, identity.dim), device, pinned=pinned)
