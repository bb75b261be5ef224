"""The zarr.json files of a store: what they must say, and where they say something else."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cache_schema.errors import Problem
from cache_schema.layout import ArrayLayout, StoreLayout, segment_name
from cache_schema.storage.storage import Storage

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer

ROOT_KEY: Final = "zarr.json"
"""Name of the metadata of a group or an array; the store's own lies in its root."""

MISSING_FILE: Final = "is missing"

# What Zarr v3 takes for granted where it is not said; zarr-python says some of it.
_DEFAULTS: Final[Mapping[str, object]] = {
    "attributes": {},
    "storage_transformers": [],
    "consolidated_metadata": None,
}
_GROUP: Final[Mapping[str, object]] = {"zarr_format": 3, "node_type": "group"}


def segment_problems(
    storage: Storage, segment: int, layout: StoreLayout, *, whole: bool = False
) -> list[Problem]:
    """Returns where the Zarr metadata of a segment differ from the store's layout.

    Args:
        storage: where the store lies.
        segment: number of the segment.
        layout: the store's layout.
        whole: compare all that the files say, and the group's own too; otherwise what matters to
            reading, which is what the arrays say of themselves.
    """
    folder = segment_name(segment)
    problems = []
    for name, array in layout.arrays().items():
        place = f"{folder}/{name}/{ROOT_KEY}"
        problems.extend(_problems(storage, place, _array_document(array), whole=whole))
    if whole:
        problems.extend(_problems(storage, f"{folder}/{ROOT_KEY}", _GROUP, whole=True))
    return problems


def group_problems(document: Mapping[str, object], attributes: object) -> list[Problem]:
    """Returns where the metadata of a group differ from those of a group with some attributes."""
    return _differences(ROOT_KEY, document, {**_GROUP, "attributes": attributes}, whole=True)


def group_metadata(attributes: Mapping[str, Any]) -> bytes:
    """Returns the metadata of a group as zarr-python writes them."""
    # Imported here: reading a store does not need zarr-python, and starts without its second.
    import zarr
    from zarr.storage import MemoryStore

    made: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(made), zarr_format=3, attributes=dict(attributes))
    return made[ROOT_KEY].to_bytes()


@lru_cache(maxsize=4)
def segment_metadata(layout: StoreLayout) -> Mapping[str, bytes]:
    """Returns the metadata files of a segment, by place in its folder; the group's own comes last."""
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec
    from zarr.storage import MemoryStore

    files = {}
    for name, array in layout.arrays().items():
        made: dict[str, Buffer] = {}
        zarr.create_array(
            MemoryStore(made),
            shape=array.shape,
            chunks=array.chunk,
            shards=array.shard,
            dtype=array.dtype,
            fill_value=array.fill_value,
            serializer=BytesCodec(endian=None if array.dtype == "int8" else "little"),
            compressors=[Crc32cCodec()],
            filters=None,
            chunk_key_encoding={"name": "default", "separator": "."},
            dimension_names=array.dimensions,
        )
        files[f"{name}/{ROOT_KEY}"] = made[ROOT_KEY].to_bytes()
    return {**files, ROOT_KEY: group_metadata({})}


def _problems(
    storage: Storage, place: str, wanted: Mapping[str, object], *, whole: bool
) -> list[Problem]:
    try:
        found = json.loads(storage.read(place))
    except FileNotFoundError:
        return [Problem(place, MISSING_FILE)]
    except ValueError as error:
        return [Problem(place, f"is not JSON: {error}")]
    if not isinstance(found, Mapping):
        return [Problem(place, "is no JSON object")]
    return _differences(place, found, wanted, whole=whole)


def _differences(
    place: str, found: Mapping[str, object], wanted: Mapping[str, object], *, whole: bool
) -> list[Problem]:
    expected = {**_DEFAULTS, **wanted} if whole else wanted
    problems = [
        Problem(f"{place}:{key}", f"is {found.get(key)!r}, not {value!r}")
        for key, value in expected.items()
        if found.get(key, _DEFAULTS.get(key)) != value
    ]
    if whole:
        strange = [key for key in found if key not in expected]
        problems.extend(Problem(f"{place}:{key}", "is not among its fields") for key in strange)
    return problems


def _array_document(array: ArrayLayout) -> Mapping[str, object]:
    # The codec of single bytes has no endianness to tell.
    order = {} if array.dtype == "int8" else {"configuration": {"endian": "little"}}
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": list(array.chunk),
        "codecs": [{"name": "bytes", **order}, {"name": "crc32c"}],
        "index_codecs": index,
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(array.shape),
        "data_type": array.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": "NaN" if math.isnan(array.fill_value) else array.fill_value,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": list(array.dimensions),
    }
