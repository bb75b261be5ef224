"""Shard bytes: equal to zarr-python's in both directions, and never believed when damaged."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from cache_schema.errors import CorruptStore
from cache_schema.layout import ShardShape
from cache_schema.shards.shard import decode_index, encode_shard, is_dense
from cache_schema.shards.shard_file import ShardFiles

VALUES = 6


def _zarr_array(folder: Path, chunks: int) -> zarr.Array:
    """One shard of ``chunks`` chunks of six values, as zarr-python makes it."""
    return zarr.create_array(
        folder,
        shape=(chunks, VALUES),
        chunks=(1, VALUES),
        shards=(chunks, VALUES),
        dtype="float16",
        fill_value=float("nan"),
        serializer=BytesCodec(endian="little"),
        compressors=[Crc32cCodec()],
        filters=None,
        chunk_key_encoding={"name": "default", "separator": "."},
    )


def _values(chunks: int) -> np.ndarray:
    return np.random.default_rng(chunks).standard_normal((chunks, VALUES)).astype(np.float16)


def _shape(chunks: int) -> ShardShape:
    return ShardShape(chunks=chunks, chunk_bytes=2 * VALUES)


@pytest.mark.parametrize("chunks", [1, 2, 7, 16, 100])
def test_a_full_shard_is_byte_for_byte_that_of_zarr(tmp_path: Path, chunks: int) -> None:
    array = _zarr_array(tmp_path, chunks)
    array[:] = _values(chunks)
    written = (tmp_path / "c.0.0").read_bytes()
    assert encode_shard(_values(chunks), _shape(chunks)).tobytes() == written


@pytest.mark.parametrize(("chunks", "present"), [(4, 0), (4, 1), (4, 3), (4, 4), (1, 1)])
def test_zarr_reads_a_shard_whose_tail_is_missing(
    tmp_path: Path, chunks: int, present: int
) -> None:
    array = _zarr_array(tmp_path, chunks)
    (tmp_path / "c.0.0").write_bytes(
        encode_shard(_values(chunks)[:present], _shape(chunks)).tobytes()
    )
    np.testing.assert_array_equal(array[:present], _values(chunks)[:present])
    assert np.isnan(array[present:]).all()


@pytest.mark.parametrize("chunks", [1, 2, 9, 600])
def test_our_reader_reads_a_shard_of_zarr(tmp_path: Path, chunks: int) -> None:
    array = _zarr_array(tmp_path, chunks)
    array[:] = _values(chunks)
    files = ShardFiles(tmp_path, _shape(chunks), check=True)
    for wanted in (range(chunks), list(range(chunks))[::-1], [0, 0, chunks - 1]):
        out = np.empty((len(wanted), VALUES), np.float16)
        files.read("c.0.0", (0, 0), wanted, out.view(np.uint8), "clip")
        np.testing.assert_array_equal(out, _values(chunks)[list(wanted)])


def test_our_reader_follows_an_index_out_of_order(tmp_path: Path) -> None:
    # A chunk-wise rewrite by zarr-python may leave any order; offsets then come from the index.
    values, shape = _values(3), _shape(3)
    file = encode_shard(values[[2, 0, 1]], shape)
    dense = encode_shard(values, shape)
    index = np.frombuffer(dense[3 * shape.stride : -4].tobytes(), "<u8").reshape(3, 2)
    moved = encode_shard(values, ShardShape(chunks=3, chunk_bytes=2 * VALUES))
    moved[: 3 * shape.stride] = file[: 3 * shape.stride]
    _store_index(moved, index[[1, 2, 0]], shape)
    (tmp_path / "c.0.0").write_bytes(moved.tobytes())
    out = np.empty((3, VALUES), np.float16)
    ShardFiles(tmp_path, shape, check=True).read("c.0.0", (0, 0), range(3), out.view(np.uint8), "x")
    np.testing.assert_array_equal(out, values)


def test_a_missing_chunk_is_an_error_not_a_fill_value(tmp_path: Path) -> None:
    (tmp_path / "c.0.0").write_bytes(encode_shard(_values(4)[:2], _shape(4)).tobytes())
    files = ShardFiles(tmp_path, _shape(4), check=True)
    out = np.empty((1, VALUES), np.float16).view(np.uint8)
    files.read("c.0.0", (0, 0), [1], out, "clip")
    with pytest.raises(
        CorruptStore, match=r"c\.0\.0, which holds clip 'clip', lacks chunk 2"
    ) as caught:
        files.read("c.0.0", (0, 0), [2], out, "clip")
    assert caught.value.clip_id == "clip"
    assert caught.value.file == str(tmp_path / "c.0.0")


def _store_index(file: np.ndarray, index: np.ndarray, shape: ShardShape) -> None:
    import google_crc32c

    entries = index.astype("<u8").tobytes()
    tail = entries + google_crc32c.value(entries).to_bytes(4, "little")
    file[-shape.index_bytes :] = np.frombuffer(tail, np.uint8)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ((2**63, 16), "negative"),
        ((2**64 - 2, 16), "wraps"),
        ((33, 16), "past-the-end"),
        ((0, 15), "length"),
        ((0, 2**64 - 1), "half-missing"),
        ((2**64 - 1, 16), "half-missing-offset"),
    ],
)
def test_an_index_that_points_elsewhere_is_refused(entry: tuple[int, int], name: str) -> None:
    shape = _shape(3)
    file = encode_shard(_values(3), shape)
    index = np.array([[0, 16], [16, 16], [32, 16]], dtype=np.uint64)
    index[1] = entry
    _store_index(file, index, shape)
    with pytest.raises(ValueError, match="points outside"):
        decode_index(file[-shape.index_bytes :].tobytes(), shape, len(file))


def test_dense_means_computable() -> None:
    assert is_dense(np.array([0, 16, 32]), _shape(3))
    assert not is_dense(np.array([0, 16, -1]), _shape(3))
    assert not is_dense(np.array([16, 0, 32]), _shape(3))
