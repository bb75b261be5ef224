"""The root of a store: creating it, and telling absent, foreign, older, same and newer apart."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cache_schema import field_rules
from cache_schema.durable_files import publish_folder, temporary_name
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
    CLAIMS,
    COMMITS,
    FORMAT,
    MANIFEST,
    StoreLayout,
    segment_name,
)

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
_UPGRADE: Final = "Upgrade videodistill-cache to use it; it was not touched."


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreRoot:
    """What the root of a store says about it."""

    path: Path
    identity: FeatureIdentity
    layout: StoreLayout
    created: str
    """When the store was created, ISO 8601 in UTC."""
    writer_features: tuple[str, ...]
    """What a writer must know beyond format 1; a reader need not."""


def create_store(
    path: str | os.PathLike[str],
    identity: FeatureIdentity,
    *,
    block_slots: int = 16,
    segment_slots: int = 4096,
) -> None:
    """Creates a store, or does nothing where one of the same identity is.

    The store appears at once and whole, so of several processes that create it one succeeds and the
    others find it. A store that is there keeps its own block and segment sizes.

    Args:
        path: folder of the store; must be absent or empty.
        identity: what the store's features are.
        block_slots: clips of a block, the unit of work, retry and commit.
        segment_slots: clips of a segment; a multiple of ``block_slots``.

    Raises:
        InputError: the sizes do not fit together.
        IdentityMismatch: a store of another identity is there.
        StoreForeign, StoreNewer, StoreOlder, CorruptStore: as ``read_root``.
    """
    root = Path(path)
    layout = StoreLayout.of(identity, block_slots=block_slots, segment_slots=segment_slots)
    try:
        require_identity(read_root(root), identity)
    except StoreAbsent:
        pass
    else:
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(root)
    attributes = {
        "format": FORMAT,
        "reader_features": [],
        "writer_features": [],
        "identity": identity.to_json(),
        "digest": identity.digest,
        "block_slots": block_slots,
        "segment_slots": segment_slots,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    _write_group(temporary, {ATTRIBUTE_KEY: attributes})
    _write_segment(temporary / segment_name(0), layout)
    for folder in (CLAIMS, COMMITS, MANIFEST):
        (temporary / folder).mkdir()
    if not publish_folder(temporary, root):
        require_identity(read_root(root), identity)


def create_segment(root: StoreRoot, segment: int) -> None:
    """Creates a segment of a store, or does nothing where it is."""
    folder = root.path / segment_name(segment)
    if not (folder / "zarr.json").exists():
        # Built among the claims, so that an unfinished segment never shows as a group of the store.
        temporary = temporary_name(root.path / CLAIMS / folder.name)
        _write_segment(temporary, root.layout)
        publish_folder(temporary, folder)


def read_root(path: str | os.PathLike[str]) -> StoreRoot:
    """Reads the root of a store of this version's format.

    Absent, foreign, older, same and newer are five different answers, and none of them is "empty".

    Raises:
        StoreAbsent: nothing is at the path, or an empty folder.
        StoreForeign: something else is at the path.
        StoreOlder: the store has an earlier format.
        StoreNewer: the store has a later format, or features that a reader must know.
        CorruptStore: the store's own metadata are damaged.
    """
    root = Path(path)
    file = root / "zarr.json"
    document = _read_document(root, file)
    attributes = document.get("attributes")
    ours = attributes.get(ATTRIBUTE_KEY) if isinstance(attributes, Mapping) else None
    if document.get("zarr_format") != 3 or document.get("node_type") != "group" or ours is None:
        raise StoreForeign(
            f"{root} holds Zarr data of another program: its zarr.json is no Zarr v3 group with the "
            f"attribute {ATTRIBUTE_KEY!r}. Give the path of a feature store, or of a new folder."
        )
    _require_known_format(root, ours)
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
    _require_arrays(root, layout)
    return StoreRoot(
        path=root,
        identity=identity,
        layout=layout,
        created=ours["created"],
        writer_features=tuple(ours["writer_features"]),
    )


def require_identity(root: StoreRoot, identity: FeatureIdentity) -> None:
    """Refuses a store of another identity.

    Raises:
        IdentityMismatch: names every field that differs.
    """
    if root.identity != identity:
        differences = "\n  ".join(identity.differences(root.identity))
        raise IdentityMismatch(
            f"The store {root.path} holds other features, {root.identity.name}, than the "
            f"{identity.name} wanted:\n  {differences}\nUse another folder for these features, or the "
            f"store's settings."
        )


def array_problems(root: Path, segment: int, layout: StoreLayout) -> list[Problem]:
    """Returns where the Zarr metadata of a segment's arrays differ from the store's layout."""
    problems = []
    for name, expected in layout.arrays().items():
        file = root / segment_name(segment) / name / "zarr.json"
        place = file.relative_to(root).as_posix()
        try:
            found = json.loads(file.read_bytes())
        except FileNotFoundError:
            problems.append(Problem(place, "is missing"))
            continue
        except ValueError as error:
            problems.append(Problem(place, f"is not JSON: {error}"))
            continue
        wanted = _array_metadata(
            expected.shape, expected.chunk, expected.shard, expected.dimensions
        )
        problems.extend(
            Problem(f"{place}:{key}", f"is {found.get(key)!r}, not {value!r}")
            for key, value in wanted.items()
            if not isinstance(found, Mapping) or found.get(key) != value
        )
    return problems


def _read_document(root: Path, file: Path) -> Mapping[str, object]:
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not root.exists() or (root.is_dir() and not any(root.iterdir())):
            raise StoreAbsent(
                f"There is no feature store at {root}. Run extraction to make one, or check the path."
            ) from None
        kind = "a folder without zarr.json" if root.is_dir() else "a file"
        raise StoreForeign(
            f"{root} is {kind}, not a feature store. Give the path of a store, or of a new folder."
        ) from None
    try:
        document = json.loads(content)
    except ValueError as error:
        raise CorruptStore(
            f"{file} is not JSON: {error}. Restore it from a backup; nothing was changed.",
            file=file,
        ) from error
    if not isinstance(document, Mapping):
        raise StoreForeign(f"{file} is not Zarr metadata; {root} is not a feature store.")
    return document


def _require_known_format(root: Path, ours: object) -> None:
    found = ours.get("format") if isinstance(ours, Mapping) else None
    if not isinstance(ours, Mapping) or not isinstance(found, str):
        raise CorruptStore(
            f"The metadata of the store {root} name no format; restore its zarr.json from a backup.",
            file=root / "zarr.json",
        )
    if found != FORMAT:
        if found.isdecimal() and int(found) < int(FORMAT):
            raise StoreOlder(
                f"The store {root} has format {found}; this version reads format {FORMAT}. Extract "
                f"its clips again into a new folder, or read it with the version that wrote it."
            )
        raise StoreNewer(f"The store {root} has format {found!r}, later than {FORMAT}. {_UPGRADE}")
    if features := ours.get("reader_features"):
        raise StoreNewer(
            f"The store {root} needs a reader that knows {features}; this version does not. {_UPGRADE}"
        )


def _require_arrays(root: Path, layout: StoreLayout) -> None:
    # The sizes in the root are not covered by the identity's digest; the arrays say them again.
    if problems := array_problems(root, 0, layout):
        message = str(SchemaError(f"the store {root}", problems))
        raise CorruptStore(message, file=root / problems[0].path.partition(":")[0])


def _array_metadata(
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    shard: tuple[int, ...],
    dimensions: tuple[str, ...],
) -> dict[str, object]:
    raw = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": list(chunk),
        "codecs": raw,
        "index_codecs": raw,
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "float16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shard)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": "NaN",
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": list(dimensions),
    }


def _write_group(folder: Path, attributes: dict[str, object]) -> None:
    # Imported here: reading a store does not need zarr-python, and starts without its second.
    import zarr

    zarr.create_group(folder, zarr_format=3, attributes=attributes)


def _write_segment(folder: Path, layout: StoreLayout) -> None:
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec

    try:
        group = zarr.create_group(folder, zarr_format=3)
        for name, array in layout.arrays().items():
            group.create_array(
                name,
                shape=array.shape,
                chunks=array.chunk,
                shards=array.shard,
                dtype="float16",
                fill_value=float("nan"),
                serializer=BytesCodec(endian="little"),
                compressors=[Crc32cCodec()],
                filters=None,
                chunk_key_encoding={"name": "default", "separator": "."},
                dimension_names=array.dimensions,
            )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
