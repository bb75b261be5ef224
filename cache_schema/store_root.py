"""The root of a store: creating it, and telling absent, foreign, older, same and newer apart."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from cache_schema import field_rules
from cache_schema.durable_files import TEMPORARY_PREFIX
from cache_schema.errors import (
    CorruptStore,
    IdentityMismatch,
    InputError,
    Problem,
    SchemaError,
    StoreAbsent,
    StoreForeign,
    StoreNewer,
    StoreOlder,
)
from cache_schema.field_rules import Rule, check_fields
from cache_schema.identity import FeatureIdentity
from cache_schema.layout import (
    ATTRIBUTE_KEY,
    FORMAT,
    MANIFEST,
    ArrayLayout,
    StoreLayout,
    segment_name,
)
from cache_schema.storage import Storage, open_storage

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer

_RULES: Final[Mapping[str, Rule]] = {
    "format": field_rules.text(pattern=FORMAT),
    "reader_features": field_rules.sequence(field_rules.text()),
    "writer_features": field_rules.sequence(field_rules.text()),
    "identity": field_rules.anything(),
    "digest": field_rules.text(pattern="[0-9a-f]{64}"),
    "block_slots": field_rules.integer(least=1),
    "segment_slots": field_rules.integer(least=1),
    "created": field_rules.text(),
}
_READER_FEATURES: Final = {"imported", "int8-token", "pooled"}
"""What this version can read beyond the first one."""
_ROOT_KEY: Final = "zarr.json"
_MISSING: Final = "is missing"
_UPGRADE: Final = "Upgrade videodistill-cache to use it; it was not touched."


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRoot:
    """What the root of a store says about it."""

    storage: Storage
    identity: FeatureIdentity
    layout: StoreLayout
    created: str
    """When the store was created, ISO 8601 in UTC."""
    writer_features: tuple[str, ...]
    """What a writer must know beyond format 1; a reader need not."""
    attributes: Mapping[str, object] = field(compare=False)
    """All that the root says, as plain JSON values; every version of the manifest keeps a copy."""


def create_store(
    location: str | os.PathLike[str],
    identity: FeatureIdentity,
    *,
    block_slots: int = 16,
    segment_slots: int = 4096,
) -> None:
    """Creates a store, or does nothing where one of the same identity is.

    The store is there once its root's ``zarr.json`` is, and that is created exclusively: of several
    processes that create it one succeeds and the others find it. A store that is there keeps its own
    block and segment sizes.

    Args:
        location: path of the store; must be absent or empty.
        identity: what the store's features are.
        block_slots: clips of a block, the unit of work, retry and commit.
        segment_slots: clips of a segment; a multiple of ``block_slots``.

    Raises:
        InputError: the sizes do not fit together.
        IdentityMismatch: a store of another identity is there.
        StoreForeign, StoreNewer, StoreOlder, CorruptStore: as ``read_root``.
    """
    storage = open_storage(location)
    # Refuses sizes that do not fit before anything is made.
    StoreLayout.of(identity, block_slots=block_slots, segment_slots=segment_slots)
    try:
        require_identity(_read(storage), identity)
    except StoreAbsent:
        pass
    else:
        return
    attributes = {
        "format": FORMAT,
        "reader_features": list(identity.reader_features),
        "writer_features": [],
        "identity": identity.to_json(),
        "digest": identity.digest,
        "block_slots": block_slots,
        "segment_slots": segment_slots,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # A creator that dies from here on leaves a store without arrays; its first claim makes them.
    storage.create(_ROOT_KEY, _group_metadata({ATTRIBUTE_KEY: attributes}))
    root = _read(storage)
    require_identity(root, identity)
    create_segment(root, 0)


def create_segment(root: StoreRoot, segment: int) -> None:
    """Creates a segment of a store, or does nothing where it is."""
    folder = segment_name(segment)
    if root.storage.exists(f"{folder}/{_ROOT_KEY}"):
        return
    # All creators write the same, so it does not matter whose file comes first. The group comes
    # last: where it is, the arrays are.
    for name, content in _segment_metadata(root.layout).items():
        root.storage.create(f"{folder}/{name}", content)


def read_root(location: str | os.PathLike[str]) -> StoreRoot:
    """Reads the root of a store of this version's format.

    Absent, foreign, older, same and newer are five different answers, and none of them is "empty".

    Raises:
        StoreAbsent: nothing is at the path, or an empty folder.
        StoreForeign: something else is at the path.
        StoreOlder: the store has an earlier format.
        StoreNewer: the store has a later format, or features that a reader must know.
        CorruptStore: the store's own metadata are damaged.
    """
    return _read(open_storage(location))


def _read(storage: Storage) -> StoreRoot:
    file = storage.name(_ROOT_KEY)
    document = _read_document(storage, file)
    attributes = document.get("attributes")
    ours = attributes.get(ATTRIBUTE_KEY) if isinstance(attributes, Mapping) else None
    if document.get("zarr_format") != 3 or document.get("node_type") != "group" or ours is None:
        raise StoreForeign(
            f"{storage.location} holds Zarr data of another program: its zarr.json is no Zarr v3 group with the "
            f"attribute {ATTRIBUTE_KEY!r}. Give the path of a feature store, or of a new folder."
        )
    _require_known_format(storage, ours)
    problems = check_fields(ours, _RULES)
    if problems:
        raise CorruptStore(str(SchemaError(f"store metadata in {file}", problems)), file=file)
    try:
        identity = FeatureIdentity.from_json(ours["identity"])
        layout = StoreLayout.of(
            identity, block_slots=ours["block_slots"], segment_slots=ours["segment_slots"]
        )
    except (SchemaError, InputError) as error:
        raise CorruptStore(f"{file}: {error}", file=file) from error
    if identity.digest != ours["digest"]:
        raise CorruptStore(
            f"{file} names the digest {ours['digest']}, but its identity has {identity.digest}; "
            f"restore it from a backup.",
            file=file,
        )
    if missing := set(identity.reader_features) - set(ours["reader_features"]):
        # An older reader would take such a store for a plain one.
        raise CorruptStore(
            f"{file} does not name the reader features {sorted(missing)} that its identity needs; "
            f"restore it from a backup.",
            file=file,
        )
    _require_arrays(storage, layout)
    return StoreRoot(
        storage=storage,
        identity=identity,
        layout=layout,
        created=ours["created"],
        writer_features=tuple(ours["writer_features"]),
        attributes=ours,
    )


def require_identity(root: StoreRoot, identity: FeatureIdentity) -> None:
    """Refuses a store of another identity.

    Raises:
        IdentityMismatch: names every field that differs.
    """
    if root.identity != identity:
        differences = "\n  ".join(identity.differences(root.identity))
        raise IdentityMismatch(
            f"The store {root.storage.location} holds other features, {root.identity.name}, than the "
            f"{identity.name} wanted:\n  {differences}\nUse another folder for these features, or the "
            f"store's settings."
        )


def array_problems(storage: Storage, segment: int, layout: StoreLayout) -> list[Problem]:
    """Returns where the Zarr metadata of a segment's arrays differ from the store's layout."""
    problems = []
    for name, expected in layout.arrays().items():
        place = f"{segment_name(segment)}/{name}/zarr.json"
        try:
            found = json.loads(storage.read(place))
        except FileNotFoundError:
            problems.append(Problem(place, _MISSING))
            continue
        except ValueError as error:
            problems.append(Problem(place, f"is not JSON: {error}"))
            continue
        wanted = _array_metadata(expected)
        problems.extend(
            Problem(f"{place}:{key}", f"is {found.get(key)!r}, not {value!r}")
            for key, value in wanted.items()
            if not isinstance(found, Mapping) or found.get(key) != value
        )
    return problems


def _read_document(storage: Storage, file: str) -> Mapping[str, object]:
    try:
        content = storage.read(_ROOT_KEY)
    except FileNotFoundError:
        # A creator's unfinished zarr.json is nothing yet.
        other = next(
            (f.key for f in storage.walk() if not f.key.startswith(TEMPORARY_PREFIX)), None
        )
        if other is None:
            raise StoreAbsent(
                f"There is no feature store at {storage.location}. Run extraction to make one, or "
                f"check the path."
            ) from None
        kind = "is a file" if other == "." else f"holds other things ({other}) and no zarr.json"
        raise StoreForeign(
            f"{storage.location} {kind}; it is not a feature store. Give the path of a store, or of "
            f"a new folder."
        ) from None
    try:
        document = json.loads(content)
    except ValueError as error:
        raise CorruptStore(
            f"{file} is not JSON: {error}. Restore it from a backup; nothing was changed.",
            file=file,
        ) from error
    if not isinstance(document, Mapping):
        raise StoreForeign(
            f"{file} is not Zarr metadata; {storage.location} is not a feature store."
        )
    return document


def _require_known_format(storage: Storage, ours: object) -> None:
    found = ours.get("format") if isinstance(ours, Mapping) else None
    if not isinstance(ours, Mapping) or not isinstance(found, str):
        raise CorruptStore(
            f"{storage.name(_ROOT_KEY)} names no format; restore it from a backup.",
            file=storage.name(_ROOT_KEY),
        )
    if found != FORMAT:
        if found.isdecimal() and int(found) < int(FORMAT):
            raise StoreOlder(
                f"The store {storage.location} has format {found}; this version reads format {FORMAT}. Extract "
                f"its clips again into a new folder, or read it with the version that wrote it."
            )
        raise StoreNewer(
            f"The store {storage.location} has format {found!r}, later than {FORMAT}. {_UPGRADE}"
        )
    features = ours.get("reader_features")
    unknown = set(features) - _READER_FEATURES if isinstance(features, list) else set()
    if unknown:
        raise StoreNewer(
            f"The store {storage.location} needs a reader that knows {sorted(unknown)}; this version "
            f"does not. {_UPGRADE}"
        )


def _require_arrays(storage: Storage, layout: StoreLayout) -> None:
    # The sizes in the root are not covered by the identity's digest; the arrays say them again.
    problems = array_problems(storage, 0, layout)
    unfinished = all(problem.problem == _MISSING for problem in problems)
    # Without a manifest nothing can be read yet, and the first claim makes what is missing.
    if problems and not (unfinished and not storage.names(MANIFEST)):
        message = str(SchemaError(f"the store {storage.location}", problems))
        raise CorruptStore(message, file=storage.name(problems[0].path.partition(":")[0]))


def _array_metadata(array: ArrayLayout) -> dict[str, object]:
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


def _group_metadata(attributes: dict[str, Any]) -> bytes:
    # Imported here: reading a store does not need zarr-python, and starts without its second.
    import zarr
    from zarr.storage import MemoryStore

    made: dict[str, Buffer] = {}
    zarr.create_group(MemoryStore(made), zarr_format=3, attributes=attributes)
    return made[_ROOT_KEY].to_bytes()


def _segment_metadata(layout: StoreLayout) -> dict[str, bytes]:
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
        files[f"{name}/{_ROOT_KEY}"] = made[_ROOT_KEY].to_bytes()
    return {**files, _ROOT_KEY: _group_metadata({})}
