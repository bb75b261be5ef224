"""Reading patch features into the caller's memory, whatever form the store keeps them in."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cache_schema.int8_tokens import dequantise
from cache_schema.layout import StoreLayout
from cache_schema.shard_file import ShardFiles
from cache_schema.storage import Storage


class PatchFiles:
    """Reads the patches of a store's clips. May be used by many threads, and after a fork.

    Args:
        storage: where the store is.
        layout: arithmetic of the store.
        check: whether to compare the crc32c of every chunk that is read.
    """

    def __init__(self, storage: Storage, layout: StoreLayout, *, check: bool) -> None:
        self._layout = layout
        self._values = ShardFiles(storage, layout.patch_shard, check=check)
        self._scales = ShardFiles(storage, layout.scale_shard, check=check)

    def read(
        self,
        address: tuple[int, int],
        frames: Sequence[int],
        out: npt.NDArray[np.float16],
        clip_id: str,
    ) -> None:
        """Reads frames of one clip.

        Args:
            address: segment and slot of the clip.
            frames: numbers of the frames, in any order.
            out: float16 [len(frames), P, D], C-contiguous; receives the patches.
            clip_id: the clip, to be named in errors.

        Raises:
            CorruptStore: a file is missing, short or fails its checksum.
        """
        layout = self._layout
        if layout.patches == 0:
            return
        place, row_bytes = layout.patch_file(*address), layout.patch_shard.chunk_bytes
        if not layout.quantised:
            flat = out.reshape(len(frames), row_bytes // 2).view(np.uint8)
            self._values.read(place, address, frames, flat, clip_id)
            return
        values = np.empty((len(frames), row_bytes), dtype=np.uint8)
        self._values.read(place, address, frames, values, clip_id)
        scale = self._scale(address, clip_id)
        if len(frames) != layout.frames or not isinstance(frames, range):
            scale = scale[list(frames)]
        dequantise(values.view(np.int8).reshape(out.shape), scale, out)

    def _scale(self, address: tuple[int, int], clip_id: str) -> npt.NDArray[np.float32]:
        """Returns the scales of all frames of a clip, float32 [N, P]: one chunk, few bytes."""
        layout, (segment, slot) = self._layout, address
        block, chunk = divmod(slot, layout.block_slots)
        content = np.empty((1, layout.scale_shard.chunk_bytes), dtype=np.uint8)
        place = layout.scale_file(segment, block)
        self._scales.read(place, (segment, block), (chunk,), content, clip_id)
        scale: npt.NDArray[np.float32] = content.view("<f4").reshape(layout.frames, layout.patches)
        return scale
