"""The root of a store: creating it, and telling absent, foreign, older, same and newer apart."""

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cache_schema import field_rules
from cache_schema.errors import (
    CorruptStore,
    IdentityMismatch,
    InputError,
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
    StoreLayout,
    segment_name,
)
from cache_schema.storage.durable_files import TEMPORARY_PREFIX
from cache_schema.storage.storage import Storage, open_storage
from cache_schema.zarr_metadata import (
    MISSING_FILE,
    ROOT_KEY,
    group_metadata,
    segment_metadata,
    segment_problems,
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
ROOT_FIELDS: Final = tuple(_RULES)
"""What the root says, in the order in which it says it."""
_READER_FEATURES: Final = {"imported", "int8-token", "pooled"}
"""What this version can read beyond the first one."""
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
    storage.create(ROOT_KEY, group_metadata({ATTRIBUTE_KEY: attributes}))
    root = _read(storage)
    require_identity(root, identity)
    create_segment(root, 0)


def create_segment(root: StoreRoot, segment: int) -> None:
    """Creates a segment of a store, or does nothing where it is."""
    folder = segment_name(segment)
    if root.storage.exists(f"{folder}/{ROOT_KEY}"):
        return
    # All creators write the same, so it does not matter whose file comes first. The group comes
    # last: where it is, the arrays are.
    for name, content in segment_metadata(root.layout).items():
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


def parse_root(storage: Storage, document: Mapping[str, object]) -> StoreRoot:
    """Reads a root's metadata, wherever they were found; says nothing about the arrays.

    Raises:
        StoreForeign, StoreOlder, StoreNewer, CorruptStore: as ``read_root``.
    """
    file = storage.name(ROOT_KEY)
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
    return StoreRoot(
        storage=storage,
        identity=identity,
        layout=layout,
        created=ours["created"],
        writer_features=tuple(ours["writer_features"]),
        attributes=ours,
    )


def _read(storage: Storage) -> StoreRoot:
    root = parse_root(storage, _read_document(storage, storage.name(ROOT_KEY)))
    _require_arrays(storage, root.layout)
    return root


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


def _read_document(storage: Storage, file: str) -> Mapping[str, object]:
    try:
        content = storage.read(ROOT_KEY)
    except FileNotFoundError:
        # A creator's unfinished zarr.json is nothing yet.
        # Nor can what cannot be listed be told to be something else.
        other = None
        with contextlib.suppress(io.UnsupportedOperation):
            found = (file.key for file in storage.walk())
            other = next((key for key in found if not key.startswith(TEMPORARY_PREFIX)), None)
        if other is not None and storage.exists(ROOT_KEY):
            # Another process has created the store between the two looks.
            return _read_document(storage, file)
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
            f"{storage.name(ROOT_KEY)} names no format; restore it from a backup.",
            file=storage.name(ROOT_KEY),
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
    problems = segment_problems(storage, 0, layout)
    unfinished = all(problem.problem == MISSING_FILE for problem in problems)
    # Without a manifest nothing can be read yet, and the first claim makes what is missing.
    if problems and not (unfinished and not storage.names(MANIFEST)):
        message = str(SchemaError(f"the store {storage.location}", problems))
        raise CorruptStore(message, file=storage.name(problems[0].path.partition(":")[0]))
