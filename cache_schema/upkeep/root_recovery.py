"""Recovering the metadata of a store's root and segments from the copies and rules there are."""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Final, cast

from cache_schema.errors import CorruptStore, StoreError, StoreForeign
from cache_schema.layout import ATTRIBUTE_KEY
from cache_schema.manifest.manifest_version import root_copy
from cache_schema.storage.storage import Storage
from cache_schema.store_root import ROOT_FIELDS, StoreRoot, parse_root, read_root
from cache_schema.upkeep.record_audit import RecordFlaw
from cache_schema.upkeep.repair_plan import RepairStep
from cache_schema.zarr_metadata import (
    ROOT_KEY,
    group_metadata,
    group_problems,
    segment_metadata,
)

_DAMAGED_BITS: Final = 16
"""A root that differs in no more bits from what it was is damaged; otherwise it was made otherwise."""


def recover_root(storage: Storage, source: Storage | None) -> tuple[StoreRoot, RepairStep | None]:
    """Returns what the root of a store says or said, and the step that makes it say so again.

    A root that is whole and of another format is left alone: that store was upgraded, not damaged.

    Args:
        storage: the store.
        source: another copy of it, if there is one.

    Raises:
        StoreAbsent, StoreForeign, StoreOlder, StoreNewer: there is no store of this format.
        CorruptStore: the root is damaged, and nothing tells what it said.
    """
    told = root_copy(storage) or _attributes(source)
    with contextlib.suppress(StoreError):
        root = read_root(storage.location)
        if told is not None and told.get("digest") != root.identity.digest:
            # The root vouches for its identity: it is the manifest that came from another store.
            return root, None
    if told is None:
        return read_root(storage.location), None
    attributes = _in_order(storage, told)
    expected = group_metadata({ATTRIBUTE_KEY: attributes})
    why, others = "is missing", cast("Mapping[str, object]", {})
    with contextlib.suppress(FileNotFoundError):
        found = storage.read(ROOT_KEY)
        why, others = _damage(storage, found, expected, attributes)
    document = {**json.loads(expected), "attributes": {**others, ATTRIBUTE_KEY: attributes}}
    root = parse_root(storage, document)
    if not why:
        return root, None
    content = group_metadata(cast("dict[str, object]", document["attributes"]))
    return root, RepairStep(
        action="rewrite", place=ROOT_KEY, why=why, content=partial(bytes, content)
    )


def segment_steps(root: StoreRoot, flaws: Iterable[RecordFlaw]) -> Iterator[RepairStep]:
    """Yields the steps that give segments the metadata that the store's layout makes them.

    Args:
        root: the store.
        flaws: what is wrong with them; segments that were never finished need nothing.
    """
    made = segment_metadata(root.layout)
    told: dict[str, str] = {}
    for flaw in flaws:
        if flaw.severity == "error":
            told.setdefault(flaw.place, flaw.message)
    for place, why in told.items():
        content = made[place.partition("/")[2]]
        yield RepairStep(action="rewrite", place=place, why=why, content=partial(bytes, content))


def _in_order(storage: Storage, told: Mapping[str, object]) -> Mapping[str, object]:
    """Returns a root's attributes as ``create_store`` orders them; records sort their keys."""
    document = json.loads(group_metadata({ATTRIBUTE_KEY: dict(told)}))
    identity = parse_root(storage, document).identity
    return {**{name: told[name] for name in ROOT_FIELDS}, "identity": identity.to_json()}


def _attributes(source: Storage | None) -> Mapping[str, object] | None:
    return None if source is None else read_root(source.location).attributes


def _damage(
    storage: Storage, found: bytes, expected: bytes, attributes: Mapping[str, object]
) -> tuple[str, Mapping[str, object]]:
    """Returns what is wrong with a root, nothing if it is sound, and other programs' attributes."""
    try:
        document = json.loads(found)
    except ValueError as error:
        return f"is not JSON: {error}", {}
    kept = document.get("attributes") if isinstance(document, dict) else None
    others = {k: v for k, v in kept.items() if k != ATTRIBUTE_KEY} if isinstance(kept, dict) else {}
    try:
        if not isinstance(document, dict):
            raise StoreForeign(f"{storage.name(ROOT_KEY)} is no JSON object.")
        parse_root(storage, document)
    except CorruptStore as error:
        return str(error), others
    except StoreError as error:
        if _bits_apart(found, expected) > _DAMAGED_BITS:
            raise
        return str(error), {}
    problems = group_problems(document, {**others, ATTRIBUTE_KEY: attributes})
    return (str(problems[0]), others) if problems else ("", others)


def _bits_apart(first: bytes, second: bytes) -> int:
    if len(first) != len(second):
        return 8 * max(len(first), len(second))
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()
