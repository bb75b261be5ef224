"""Reading patch features into the caller's memory, whatever form the store keeps them in."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cache_schema.layout import StoreLayout
from cache_schema.shards.int8_tokens import dequantise
from cache_schema.shards.shard_file import Address, ShardRead
from cache_schema.shards.shard_source import ShardSource


class PatchFiles:
    """Reads the patches of a store's clips. May be used by many threads, and after a fork.

    Args:
        source: where the store's shards come from.
        layout: arithmetic of the store.
    """

    def __init__(self, source: ShardSource, layout: StoreLayout) -> None:
        self._layout = layout
        self._values = source.reader(layout.patch_shard)
        self._scales = source.reader(layout.scale_shard)

    def read(
        self,
        places: Sequence[Address],
        frames: Sequence[Sequence[int]],
        out: npt.NDArray[np.float16],
        clip_ids: Sequence[str],
    ) -> None:
        """Reads frames of some clips.

        Args:
            places: segment and slot of each of B clips.
            frames: numbers of K frames of each clip, in any order.
            out: float16 [B, K, P, D], C-contiguous; receives the patches.
            clip_ids: the clips, to be named in errors.

        Raises:
            CorruptStore: a file is missing, short or fails its checksum.
        """
        layout = self._layout
        if layout.patches == 0 or not out.size:
            return
        row_bytes = layout.patch_shard.chunk_bytes
        if not layout.quantised:
            flat = out.reshape(*out.shape[:2], row_bytes // 2).view(np.uint8)
            self._read_values(places, frames, flat, clip_ids)
            return
        group = self._values.group
        for first in range(0, len(places), group):
            part = slice(first, first + group)
            values = np.empty((len(places[part]), out.shape[1], row_bytes), dtype=np.uint8)
            self._read_values(places[part], frames[part], values, clip_ids[part])
            scales = self.read_scales(places[part], clip_ids[part])
            tokens = values.view(np.int8).reshape(-1, *out.shape[1:])
            for row, wanted in enumerate(frames[part]):
                scale = scales[row]
                if len(wanted) != layout.frames or not isinstance(wanted, range):
                    scale = scale[list(wanted)]
                dequantise(tokens[row], scale, out[first + row])

    def _read_values(
        self,
        places: Sequence[Address],
        frames: Sequence[Sequence[int]],
        out: npt.NDArray[np.uint8],
        clip_ids: Sequence[str],
    ) -> None:
        files = [self._layout.patch_file(*place) for place in places]
        self._values.read_all(list(map(ShardRead, files, places, frames, out, clip_ids)))

    def read_scales(
        self, places: Sequence[Address], clip_ids: Sequence[str]
    ) -> npt.NDArray[np.float32]:
        """Returns the scales of all frames of clips, float32 [B, N, P]: a chunk each, few bytes.

        Args:
            places: segment and slot of each of B clips of a store with int8 patches.
            clip_ids: the clips, to be named in errors.

        Raises:
            CorruptStore: a file is missing, short or fails its checksum.
        """
        layout = self._layout
        content = np.empty((len(places), 1, layout.scale_shard.chunk_bytes), dtype=np.uint8)
        reads = []
        for (segment, slot), row, clip_id in zip(places, content, clip_ids, strict=True):
            block, chunk = divmod(slot, layout.block_slots)
            file = layout.scale_file(segment, block)
            reads.append(ShardRead(file, (segment, block), (chunk,), row, clip_id))
        self._scales.read_all(reads)
        shape = (len(places), layout.frames, layout.patches)
        scales: npt.NDArray[np.float32] = content.view("<f4").reshape(shape)
        return scales
