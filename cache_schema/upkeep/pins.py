"""Pins: names that keep a version of the manifest, and all that it shows, from being collected."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from cache_schema import field_rules
from cache_schema.errors import CorruptStore, InputError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.manifest.manifest_version import read_version, record_key
from cache_schema.sealed_json import seal, unseal
from cache_schema.storage.storage import Storage
from cache_schema.store_root import StoreRoot

PINS: Final = "pins"

_name_rule = field_rules.text(longest=100, pattern="[A-Za-z0-9][A-Za-z0-9._-]*")
_RULES: Final[Mapping[str, Rule]] = {
    "name": _name_rule,
    "version": field_rules.integer(least=1),
    "created": field_rules.text(),
    "note": field_rules.text(longest=1000, empty=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One pinned version."""

    name: str
    version: int
    created: str
    """When, ISO 8601 in UTC."""
    note: str = ""
    """What it is kept for, such as the paper whose numbers it gives."""


def pin_version(root: StoreRoot, name: str, version: int | None = None, *, note: str = "") -> Pin:
    """Pins a version of the manifest, by default the newest.

    Args:
        root: the store.
        name: letters, digits, dots, hyphens and underscores.
        version: the version to keep.
        note: one line on what it is kept for.

    Raises:
        InputError: there is no such version, the name is taken, or name or note cannot be used.
        CorruptStore: the version's record is damaged.
    """
    number = read_version(root, version).number
    pin = Pin(
        name=name,
        version=number,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        note=note,
    )
    document: dict[str, object] = {
        "name": pin.name,
        "version": pin.version,
        "created": pin.created,
        "note": pin.note,
    }
    if number == 0:
        raise InputError(
            f"The store {root.storage.location} has no manifest version to pin; compact it first."
        )
    if problems := check_fields(document, _RULES):
        raise InputError(f"This pin cannot be made: {problems[0]}.")
    if not root.storage.create(pin_key(name), seal(document)):
        taken = read_pin(root.storage, name)
        raise InputError(
            f"The store {root.storage.location} has a pin {name!r} already, of version "
            f"{taken.version}. Give another name, or unpin it first."
        )
    if not root.storage.exists(record_key(number)):
        # Collecting came between looking and pinning.
        root.storage.delete(pin_key(name))
        raise InputError(f"Version {number} of {root.storage.location} was collected just now.")
    return pin


def unpin(root: StoreRoot, name: str) -> None:
    """Removes a pin, whatever state its file is in.

    Raises:
        InputError: there is no pin of this name.
    """
    if f"{name}.json" not in root.storage.names(PINS):
        known = ", ".join(n.removesuffix(".json") for n in sorted(root.storage.names(PINS)))
        raise InputError(
            f"The store {root.storage.location} has no pin {name!r}; it has {known or 'none'}."
        )
    root.storage.delete(pin_key(name))


def read_pins(storage: Storage) -> list[Pin]:
    """Returns all pins, sorted by name.

    Raises:
        CorruptStore: a pin is damaged; nobody knows then which version it keeps.
    """
    return [read_pin(storage, name.removesuffix(".json")) for name in sorted(storage.names(PINS))]


def read_pin(storage: Storage, name: str) -> Pin:
    """Reads one pin.

    Raises:
        CorruptStore: the pin is damaged.
        FileNotFoundError: there is no such pin.
    """
    file = storage.name(pin_key(name))
    document = unseal(storage.read(pin_key(name)), file)
    problems = check_fields(document, _RULES)
    if problems or document["name"] != name:
        what = problems[0] if problems else f"it is the pin {document['name']!r}"
        raise CorruptStore(f"{file}: {what}. Unpin {name!r} and pin the version again.", file=file)
    return Pin(
        name=name,
        version=cast("int", document["version"]),
        created=str(document["created"]),
        note=str(document["note"]),
    )


def pin_key(name: str) -> str:
    """Returns the key of a pin."""
    return f"{PINS}/{name}.json"
