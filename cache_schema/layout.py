"""Where every byte of a store stands: names, shapes, chunks, shards and offsets of format 1."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np

from cache_schema.errors import InputError
from cache_schema.identity import FeatureIdentity
from cache_schema.shards.int8_tokens import MISSING

FORMAT: Final = "1"
"""The store format that this version writes and reads."""

ATTRIBUTE_KEY: Final = "videodistill"
"""The one key that this project uses among the root group's attributes."""

CLAIMS: Final = "claims"
COMMITS: Final = "commits"
MANIFEST: Final = "manifest"

ArrayName = Literal["cls", "patch", "patch_scale"]
ArrayType = Literal["float16", "int8", "float32"]

CHECKSUM_BYTES: Final = 4
"""A crc32c, little-endian, follows every chunk and every shard index."""
INDEX_ENTRY_BYTES: Final = 16
"""Offset and length of a chunk, two unsigned 64-bit integers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardShape:
    """The arithmetic of one shard file: equal chunks, each with its checksum, then the index."""

    chunks: int
    """Number of chunks that the shard has room for."""
    chunk_bytes: int
    """Size of a chunk without its checksum."""
    dtype: ArrayType = "float16"
    """Number type of the chunks' values, little endian."""

    @property
    def values(self) -> int:
        """Numbers of a chunk."""
        return self.chunk_bytes // np.dtype(self.dtype).itemsize

    @property
    def stride(self) -> int:
        """Distance between the starts of two chunks."""
        return self.chunk_bytes + CHECKSUM_BYTES

    @property
    def index_bytes(self) -> int:
        """Size of the index at the file's end: (offset, length) of every chunk, and a checksum."""
        return INDEX_ENTRY_BYTES * self.chunks + CHECKSUM_BYTES

    def file_bytes(self, present: int) -> int:
        """Size of the file when the first ``present`` chunks are there."""
        return present * self.stride + self.index_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreLayout:
    """The arithmetic of a store.

    Raises:
        InputError: a segment is not a whole number of blocks.
    """

    frames: int
    """N, frames of a clip."""
    patches: int
    """P, patch tokens of a frame."""
    dim: int
    """D, width of a feature."""
    block_slots: int
    """Slots of a block, the unit of work and commit; also the clips of one ``cls`` shard."""
    segment_slots: int
    """Slots of a segment, the length of its arrays, which are never resized."""
    quantised: bool = False
    """Whether patches are int8, with a scale for each token in an array of its own."""

    def __post_init__(self) -> None:
        if self.block_slots < 1 or self.segment_slots < 1 or self.segment_slots % self.block_slots:
            raise InputError(
                f"A segment of {self.segment_slots} slots cannot be cut into blocks of "
                f"{self.block_slots}; make segment_slots a multiple of block_slots."
            )

    @classmethod
    def of(
        cls, identity: FeatureIdentity, *, block_slots: int, segment_slots: int
    ) -> "StoreLayout":
        """Returns the layout of a store of one identity."""
        return cls(
            frames=identity.frames,
            patches=identity.patches,
            dim=identity.dim,
            block_slots=block_slots,
            segment_slots=segment_slots,
            quantised=identity.quantised != "none",
        )

    @property
    def segment_blocks(self) -> int:
        """Blocks of a segment."""
        return self.segment_slots // self.block_slots

    @property
    def patch_shard(self) -> ShardShape:
        """A patch shard is one clip; its chunks are the clip's frames."""
        size, dtype = (1, "int8") if self.quantised else (2, "float16")
        return ShardShape(
            chunks=self.frames,
            chunk_bytes=self.patches * self.dim * size,
            dtype=cast("ArrayType", dtype),
        )

    @property
    def cls_shard(self) -> ShardShape:
        """A cls shard is one block; its chunks are the block's clips."""
        return ShardShape(chunks=self.block_slots, chunk_bytes=self.frames * self.dim * 2)

    @property
    def scale_shard(self) -> ShardShape:
        """A shard of scales is one block, as of ``cls``: scales are a hundredth of their tokens."""
        return ShardShape(
            chunks=self.block_slots, chunk_bytes=self.frames * self.patches * 4, dtype="float32"
        )

    @property
    def clip_bytes(self) -> int:
        """Size of one clip's features on disk, checksums and index entries included."""
        parts = [self.cls_shard, self.scale_shard] if self.quantised else [self.cls_shard]
        patch = self.patch_shard.file_bytes(self.frames) if self.patches else 0
        return patch + sum(shard.stride + INDEX_ENTRY_BYTES for shard in parts)

    def arrays(self) -> Mapping[ArrayName, "ArrayLayout"]:
        """Returns shape, chunk and shard of a segment's arrays."""
        n, p, d = self.frames, self.patches, self.dim
        arrays: dict[ArrayName, ArrayLayout] = {
            "cls": ArrayLayout(
                shape=(self.segment_slots, n, d),
                chunk=(1, n, d),
                shard=(self.block_slots, n, d),
                dimensions=("slot", "frame", "dim"),
            )
        }
        if p:
            arrays["patch"] = ArrayLayout(
                shape=(self.segment_slots, n, p, d),
                chunk=(1, 1, p, d),
                shard=(1, n, p, d),
                dimensions=("slot", "frame", "patch", "dim"),
                dtype=self.patch_shard.dtype,
            )
        if self.quantised:
            arrays["patch_scale"] = ArrayLayout(
                shape=(self.segment_slots, n, p),
                chunk=(1, n, p),
                shard=(self.block_slots, n, p),
                dimensions=("slot", "frame", "patch"),
                dtype="float32",
            )
        return arrays

    def cls_file(self, segment: int, block: int) -> str:
        """Returns the place of a block's ``cls`` shard below the store's root."""
        return f"{segment_name(segment)}/cls/c.{block}.0.0"

    def scale_file(self, segment: int, block: int) -> str:
        """Returns the place of a block's ``patch_scale`` shard below the store's root."""
        return f"{segment_name(segment)}/patch_scale/c.{block}.0.0"

    def block_files(self, segment: int, block: int) -> tuple[str, ...]:
        """Returns the places of the shards that hold all clips of a block."""
        scale = (self.scale_file(segment, block),) if self.quantised else ()
        return (self.cls_file(segment, block), *scale)

    def clip_files(self, segment: int, slot: int) -> tuple[str, ...]:
        """Returns the places of the shards that hold one clip alone."""
        return (self.patch_file(segment, slot),) if self.patches else ()

    def patch_file(self, segment: int, slot: int) -> str:
        """Returns the place of a clip's ``patch`` shard below the store's root."""
        return f"{segment_name(segment)}/patch/c.{slot}.0.0.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayLayout:
    """Shape, chunk and shard of one Zarr array."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    dimensions: tuple[str, ...]
    dtype: ArrayType = "float16"

    @property
    def fill_value(self) -> float | int:
        """What other readers of Zarr give for a missing shard; no feature has this value."""
        return MISSING if self.dtype == "int8" else math.nan


def segment_name(segment: int) -> str:
    """Returns the folder of a segment below the store's root."""
    return f"seg-{segment:06d}"
