"""Versions of the manifest: sealed records that name parts, and CURRENT, the hint where to look."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, cast

from cache_schema import field_rules
from cache_schema.blocks.block_runs import BlockRuns, runs_rule
from cache_schema.errors import CorruptStore, InputError, SchemaError, StoreOlder
from cache_schema.field_rules import Rule, check_fields
from cache_schema.layout import MANIFEST
from cache_schema.manifest.part_entry import PartEntry
from cache_schema.sealed_json import seal, unseal
from cache_schema.storage.storage import Storage
from cache_schema.store_root import StoreRoot

CURRENT: Final = "CURRENT"
CURRENT_KEY: Final = f"{MANIFEST}/{CURRENT}"

_RECORD_NAME: Final = re.compile(r"v(\d{6,9})\.json")
# Before the manifest had parts, a version was one Parquet file.
_EARLIER_NAME: Final = re.compile(r"v(\d{6,9})\.parquet")

_RULES: Final[Mapping[str, Rule]] = {
    "version": field_rules.integer(least=1),
    "identity": field_rules.text(pattern="[0-9a-f]{64}"),
    "root": field_rules.anything(),
    "blocks": runs_rule(),
    "clips": field_rules.integer(),
    "ok": field_rules.integer(),
    "parts": field_rules.sequence(field_rules.anything()),
    "created": field_rules.text(),
}
_CURRENT_RULES: Final[Mapping[str, Rule]] = {"version": field_rules.integer(least=1)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestVersion:
    """One version of the manifest."""

    number: int
    """0 for a store of which nothing was folded yet."""
    blocks: BlockRuns = field(default_factory=BlockRuns)
    """Addresses of the blocks whose commits the version has taken in."""
    clips: int = 0
    """How many clips have a row."""
    ok: int = 0
    """How many of them have features."""
    parts: tuple[PartEntry, ...] = ()
    """Oldest first: where two parts have a row of one clip, the later part's counts."""
    created: str = ""
    """When, ISO 8601 in UTC; told to people, decided by nothing."""


def record_key(number: int) -> str:
    """Returns the key of a version's record."""
    return f"{MANIFEST}/v{number:06d}.json"


def version_numbers(storage: Storage) -> list[int]:
    """Returns the numbers of all versions whose records are there, ascending."""
    return _numbers(storage, _RECORD_NAME)


def newest_version(storage: Storage) -> int:
    """Returns the number of a store's newest manifest version, 0 where there is none.

    CURRENT is where the search starts. A version exists once its record does, so a compactor that
    died, or was overtaken, before it moved CURRENT leaves nothing to repair.

    Raises:
        CorruptStore: CURRENT is damaged, or names a version that is missing.
        StoreOlder: the manifest is of the time before it had parts, and has to be made anew.
    """
    number = _read_current(storage)
    if number is None or not storage.exists(record_key(number)):
        known = version_numbers(storage)
        newest = known[-1] if known else 0
        if number is not None and newest < number:
            if _read_current(storage) != number:
                # Others have folded and collected since the first look.
                return newest_version(storage)
            file = storage.name(record_key(number))
            raise CorruptStore(
                f"{storage.name(CURRENT_KEY)} names version {number}, whose file is missing; restore "
                f"{file} from a backup.",
                file=file,
            )
        if not known and _numbers(storage, _EARLIER_NAME):
            raise _older(storage)
        number = newest
    while storage.exists(record_key(number + 1)):
        number += 1
    return number


def read_version(root: StoreRoot, number: int | None = None) -> ManifestVersion:
    """Reads the record of one version of a store's manifest, by default of the newest.

    Raises:
        InputError: there is no such version.
        CorruptStore: the record is damaged, or belongs to another store.
        StoreOlder: as ``newest_version``.
    """
    storage = root.storage
    if number is None:
        number = newest_version(storage)
    if number == 0:
        return ManifestVersion(number=0)
    try:
        content = storage.read(record_key(number))
    except FileNotFoundError:
        newest, known = newest_version(storage), version_numbers(storage)
        there = f"0 to {newest}" if known == list(range(1, newest + 1)) else f"0 and {known}"
        raise InputError(
            f"The store {storage.location} has no manifest version {number}; it has {there}."
        ) from None
    return _parse(root, number, content)


def base_version(root: StoreRoot) -> ManifestVersion:
    """Returns the version that a fold goes on from.

    Where the manifest is of the time before it had parts, that is a version without rows: commits are
    never deleted, so all are folded anew, under numbers that no reader of old has seen.
    """
    try:
        return read_version(root)
    except StoreOlder:
        return ManifestVersion(number=max(_numbers(root.storage, _EARLIER_NAME), default=0))


def publish_version(root: StoreRoot, version: ManifestVersion) -> bool:
    """Creates a version, unless its number is taken by another one.

    Returns:
        True if the version is the one given.
    """
    document: dict[str, object] = {
        "version": version.number,
        "identity": root.identity.digest,
        "root": root.attributes,
        "blocks": version.blocks.to_json(),
        "clips": version.clips,
        "ok": version.ok,
        "parts": [part.to_json() for part in version.parts],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if not root.storage.create(record_key(version.number), seal(document)):
        # An object store may have created the record and lost its answer: then it is ours.
        found = read_version(root, version.number)
        return (found.parts, found.blocks) == (version.parts, version.blocks)
    point_current(root.storage, version.number)
    return True


def point_current(storage: Storage, number: int) -> None:
    """Moves CURRENT on to a version, never back."""
    try:
        there = _read_current(storage) or 0
    except StoreOlder:
        there = 0
    if there < number:
        storage.replace(CURRENT_KEY, seal({"version": number}))


def root_copy(storage: Storage) -> Mapping[str, object] | None:
    """Returns what the root of a store said when the newest version was made that can be read.

    The copy is what the root is compared with, and restored from. None where there is no version.
    """
    for number in reversed(version_numbers(storage)):
        with contextlib.suppress(CorruptStore, FileNotFoundError):
            key = record_key(number)
            copy = unseal(storage.read(key), storage.name(key)).get("root")
            if isinstance(copy, Mapping):
                return copy
    return None


def _parse(root: StoreRoot, number: int, content: bytes) -> ManifestVersion:
    file = root.storage.name(record_key(number))
    document = unseal(content, file)
    if problems := check_fields(document, _RULES):
        raise CorruptStore(str(SchemaError(file, problems)), file=file)
    try:
        parts = tuple(map(PartEntry.from_json, cast("list[object]", document["parts"])))
    except SchemaError as error:
        raise CorruptStore(f"{file}: {error}", file=file) from error
    written = (str(document["identity"]), cast("int", document["version"]))
    if written != (root.identity.digest, number):
        raise CorruptStore(
            f"{file} is version {written[1]} of identity {written[0][:12]}, not version {number} of "
            f"{root.identity.digest[:12]}; it was moved here from another store.",
            file=file,
        )
    return ManifestVersion(
        number=number,
        blocks=BlockRuns(tuple((a, b) for a, b in cast("list[list[int]]", document["blocks"]))),
        clips=cast("int", document["clips"]),
        ok=cast("int", document["ok"]),
        parts=parts,
        created=str(document["created"]),
    )


def _read_current(storage: Storage) -> int | None:
    file = storage.name(CURRENT_KEY)
    try:
        document = unseal(storage.read(CURRENT_KEY), file)
    except FileNotFoundError:
        return None
    if "digests" in document:
        raise _older(storage)
    if problems := check_fields(document, _CURRENT_RULES):
        raise CorruptStore(f"{file}: {problems[0]}; restore it from a backup.", file=file)
    return cast("int", document["version"])


def _numbers(storage: Storage, pattern: re.Pattern[str]) -> list[int]:
    matches = (pattern.fullmatch(name) for name in storage.names(MANIFEST))
    return sorted(int(match[1]) for match in matches if match)


def _older(storage: Storage) -> StoreOlder:
    return StoreOlder(
        f"The manifest of the store {storage.location} was written before manifests had parts. Run "
        f"`videodistill store compact {storage.location}`: it makes the manifest anew from the commits, "
        f"and changes no feature."
    )
