"""What a store is, holds and weighs, and which stores a folder holds, in whatever state they are."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Final, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cache_schema.errors import (
    CorruptStore,
    InputError,
    StoreAbsent,
    StoreError,
    StoreForeign,
    StoreNewer,
    StoreOlder,
)
from cache_schema.exchange.store_convert import measured_loss
from cache_schema.identity import FeatureIdentity
from cache_schema.layout import COMMITS, FORMAT, MANIFEST
from cache_schema.manifest.manifest_version import newest_version
from cache_schema.outcome import Status
from cache_schema.reader import open_store
from cache_schema.shards.measured_loss import MeasuredLoss
from cache_schema.store_root import read_root
from cache_schema.upkeep.pins import read_pins
from cache_schema.upkeep.verify import Finding, verify_store

_LEVELS: Final = 3
"""Stores lie in ``stores/<data set>/<identity>``; one more level is looked at."""

Health = Literal[
    "sound", "doubtful", "damaged", "unchecked", "foreign", "older", "newer", "unreadable"
]
_HEALTH_OF_ERROR: Final[Mapping[type[StoreError], Health]] = {
    CorruptStore: "damaged",
    StoreAbsent: "foreign",
    StoreForeign: "foreign",
    StoreOlder: "older",
    StoreNewer: "newer",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreInfo:
    """What a store says of itself at one version of its manifest."""

    location: str
    format: str
    created: str
    """When the store was created, ISO 8601 in UTC."""
    version: int
    """Version of the manifest that the counts are of."""
    newest_version: int
    pins: Mapping[str, int]
    """Versions that are kept for good, by the pins' names."""
    clips: int
    """Clips that have features."""
    failures: Mapping[str, int]
    """Clips that failed in extraction, by reason, the most frequent first."""
    flags: Mapping[str, int]
    """Remarks on clips that have features, with ``#`` for their numbers."""
    backends: Mapping[str, int]
    """Clips with features, by decoder and its version."""
    short_clips: int
    """Clips of fewer distinct frames than N."""
    loss: MeasuredLoss | None
    """Of a lossy variant, how far it is from what it was made of."""
    bytes: int
    """Size of all files, whatever the version."""
    files: int
    block_slots: int
    segment_slots: int
    identity: FeatureIdentity

    @property
    def failed(self) -> int:
        """Clips that failed in extraction."""
        return sum(self.failures.values())

    def to_json(self) -> dict[str, object]:
        """Returns everything as plain JSON values, the identity's name and digest first."""
        values: dict[str, object] = {
            field.name: getattr(self, field.name) for field in fields(self)
        }
        values["identity"] = self.identity.to_json()
        values["loss"] = None if self.loss is None else self.loss.report()
        about = {"name": self.identity.name, "digest": self.identity.digest}
        return {**about, **values, "failed": self.failed}


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedStore:
    """One entry of a listing: a store, or what keeps a folder from being one."""

    location: str
    health: Health
    """What a quick check says of a store, or the kind of error that its folder gives."""
    detail: str
    """What was found, in few words; empty for a sound store."""
    info: StoreInfo | None
    """None where no store can be read."""

    def to_json(self) -> dict[str, object]:
        """Returns everything as plain JSON values."""
        return {
            "location": self.location,
            "health": self.health,
            "detail": self.detail,
            "info": None if self.info is None else self.info.to_json(),
        }


def describe_store(location: str | PathLike[str], version: int | None = None) -> StoreInfo:
    """Describes a store by its metadata, its manifest and the sizes of its files.

    Args:
        location: the store.
        version: manifest version; the newest by default.

    Raises:
        StoreAbsent, StoreForeign, StoreOlder, StoreNewer, CorruptStore: as ``open_store``.
        InputError: there is no such version.
    """
    root = read_root(location)
    store = open_store(location, version)
    table = store.manifest(["status", "reason", "backend", "flags", "distinct_frames"])
    is_ok = pc.equal(table.column("status"), str(Status.OK))
    ok, failed = table.filter(is_ok), table.filter(pc.invert(is_ok))
    remarks = Counter[str]()
    for flag, count in _counts(pc.list_flatten(ok.column("flags"))).items():
        remarks[re.sub(r"\d+(\.\d+)?", "#", flag)] += count
    short = pc.less(ok.column("distinct_frames"), root.identity.frames)
    sizes = [file.size for file in root.storage.walk()]
    return StoreInfo(
        location=root.storage.location,
        format=FORMAT,
        created=root.created,
        version=store.version,
        newest_version=newest_version(root.storage),
        pins={pin.name: pin.version for pin in read_pins(root.storage)},
        clips=ok.num_rows,
        failures=_counts(failed.column("reason")),
        flags=dict(remarks.most_common()),
        backends=_counts(ok.column("backend")),
        short_clips=pc.sum(short).as_py() or 0,
        loss=measured_loss(store),
        bytes=sum(sizes),
        files=len(sizes),
        block_slots=root.layout.block_slots,
        segment_slots=root.layout.segment_slots,
        identity=root.identity,
    )


def list_stores(
    folder: Path, *, check: bool = True, skip: Callable[[Path], bool] = lambda _: False
) -> Iterator[ListedStore]:
    """Lists the stores of a folder by name, and beside them the folders that are no store of ours.

    Whatever is damaged, foreign, newer or unreadable is an entry with its reason, never an error.

    Args:
        folder: a folder of stores, up to three levels deep, or a store.
        check: whether to check every store as ``verify_store(quick=True)`` does, which reads all
            commits and looks at the length of every file.
        skip: tells which folders to leave out.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; give a folder of stores, or a store.")
    for entry in _entries(folder, _LEVELS, skip):
        yield _listed(entry.path, check=check)


class _Entry(NamedTuple):
    path: Path
    is_store: bool


def _entries(folder: Path, levels: int, skip: Callable[[Path], bool]) -> list[_Entry]:
    """Returns the stores at or below a folder, with their neighbours; the folder, if there are none."""
    try:
        names = {path.name for path in folder.iterdir()}
        # A store that has lost its metadata is still to be seen.
        if "zarr.json" in names or {COMMITS, MANIFEST} <= names:
            return [_Entry(folder, is_store=True)]
        inner = [folder / name for name in sorted(names) if (folder / name).is_dir()]
    except OSError:
        return [_Entry(folder, is_store=True)]
    below = [
        entry
        for path in inner
        if levels and not skip(path)
        for entry in _entries(path, levels - 1, skip)
    ]
    if levels == _LEVELS or any(entry.is_store for entry in below):
        return below
    return [_Entry(folder, is_store=False)]


def _listed(path: Path, *, check: bool) -> ListedStore:
    info = None
    try:
        info = describe_store(path)
        health, detail = _health(verify_store(path, quick=True)) if check else ("unchecked", "")
    except StoreError as error:
        health, detail = _HEALTH_OF_ERROR.get(type(error), "damaged"), str(error)
    except OSError as error:
        health, detail = "unreadable", f"{path}: {error.strerror or error}"
    return ListedStore(location=str(path), health=health, detail=detail, info=info)


def _health(findings: list[Finding]) -> tuple[Health, str]:
    counts = Counter(finding.severity for finding in findings)
    detail = ", ".join(
        f"{counts[kind]} {kind}{'s' * (counts[kind] > 1)}"
        for kind in ("error", "warning", "notice")
        if counts[kind]
    )
    if counts["error"]:
        first = next(finding for finding in findings if finding.severity == "error")
        return "damaged", f"{detail}; the first: {first.place} {first.message}"
    return ("doubtful" if counts["warning"] else "sound"), detail


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return dict(Counter(column.to_pylist()).most_common())
