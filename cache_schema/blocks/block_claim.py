"""Claims: who works on which block, so that two jobs share a list of clips without a lock."""

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from cache_schema import field_rules
from cache_schema.blocks.process_owner import OWNER_RULES, ProcessOwner
from cache_schema.clip import clip_id_rule
from cache_schema.errors import CorruptStore
from cache_schema.field_rules import Rule, check_fields
from cache_schema.layout import CLAIMS, FORMAT
from cache_schema.sealed_json import seal, unseal
from cache_schema.storage.storage import Storage

LEASE_S: Final = 300.0
"""A claim of another machine whose heartbeat is older than this is dead."""

_RULES: Final[Mapping[str, Rule]] = {
    "format": field_rules.one_of(FORMAT),
    "segment": field_rules.integer(),
    "block": field_rules.integer(),
    "token": field_rules.text(),
    "job": field_rules.text(),
    "owner": field_rules.anything(),
    "clip_ids": field_rules.sequence(clip_id_rule),
    "created": field_rules.text(),
    "replaces": field_rules.boolean(),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockClaim:
    """The right to write one block, once. Plain data: it may be sent to another process.

    Attributes:
        segment: segment of the block.
        block: number of the block in its segment.
        clip_ids: the clips to be done, at most a block's slots.
        job: the job that claimed the block.
        token: random text that tells this claim from any other.
        replaces: whether the block is to take the place of what lower blocks say of its clips.
    """

    segment: int
    block: int
    clip_ids: tuple[str, ...]
    job: str
    token: str
    replaces: bool = False

    @property
    def name(self) -> str:
        """Name of the block's claim and commit records, ``000000.000017.json``."""
        return record_name(self.segment, self.block)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimRecord:
    """What a claim file says: the claim, and who made it."""

    claim: BlockClaim
    owner: ProcessOwner | None
    """None where the file is damaged: then only its heartbeat tells whether its owner lives."""

    def encode(self) -> bytes:
        """Returns the content of the claim's file."""
        claim, owner = self.claim, self.owner
        document: dict[str, object] = {
            "format": FORMAT,
            "segment": claim.segment,
            "block": claim.block,
            "token": claim.token,
            "job": claim.job,
            "owner": owner and {"host": owner.host, "pid": owner.pid, "pid_start": owner.pid_start},
            "clip_ids": list(claim.clip_ids),
            "created": datetime.now(UTC).isoformat(),
        }
        if claim.replaces:
            document["replaces"] = True
        return seal(document)


def read_claim(storage: Storage, name: str) -> ClaimRecord:
    """Reads a claim. A damaged one counts as a claim of nothing by an unknown process.

    Claims only coordinate, they say nothing about data; so a torn one must not stop a store.

    Raises:
        FileNotFoundError: there is no such claim.
    """
    try:
        return unseal_claim(storage, name)
    except CorruptStore:
        segment, block = parse_record_name(name) or (0, 0)
        nothing = BlockClaim(segment=segment, block=block, clip_ids=(), job="unknown", token="")
        return ClaimRecord(claim=nothing, owner=None)


def unseal_claim(storage: Storage, name: str) -> ClaimRecord:
    """Reads a claim, for those who must know whether it is sound.

    Raises:
        CorruptStore: the claim is damaged.
        FileNotFoundError: there is no such claim.
    """
    key = f"{CLAIMS}/{name}"
    # Only claims that replace say so.
    document = {"replaces": False, **unseal(storage.read(key), storage.name(key))}
    owner = document.get("owner")
    problems = check_fields(document, _RULES)
    if not problems and isinstance(owner, Mapping):
        problems = check_fields(owner, OWNER_RULES, "owner")
    if problems or not isinstance(owner, Mapping):
        raise CorruptStore(
            f"{storage.name(key)} is no claim: {problems[0] if problems else 'owner: is no object'}.",
            file=storage.name(key),
        )
    claim = BlockClaim(
        segment=cast("int", document["segment"]),
        block=cast("int", document["block"]),
        clip_ids=tuple(cast("list[str]", document["clip_ids"])),
        job=str(document["job"]),
        token=str(document["token"]),
        replaces=bool(document["replaces"]),
    )
    return ClaimRecord(claim=claim, owner=ProcessOwner(**owner))


class Heartbeat:
    """Keeps the claims of a living process young, from a thread of its own."""

    def __init__(self, storage: Storage, interval_s: float) -> None:
        self._storage = storage
        self._interval_s = interval_s
        self._names: set[str] = set()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, name: str) -> None:
        """Starts to keep a claim young."""
        self._names.add(name)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="claim-heartbeat", daemon=True)
            self._thread.start()

    def discard(self, name: str) -> None:
        """Lets a claim grow old."""
        self._names.discard(name)

    def beat(self) -> None:
        """Makes every claim young, by the clock of the storage."""
        for name in tuple(self._names):
            # A claim that cannot be touched will be taken for dead, and its commit refused: that
            # is safe, and the next beat may reach the storage again.
            with contextlib.suppress(OSError):
                self._storage.touch(f"{CLAIMS}/{name}")

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.beat()


def record_name(segment: int, block: int) -> str:
    """Returns the name of a block's claim and commit records, ``000000.000017.json``."""
    return f"{segment:06d}.{block:06d}.json"


def parse_record_name(name: str) -> tuple[int, int] | None:
    """Returns the segment and block that a record's name stands for, None for another name."""
    segment, _, rest = name.partition(".")
    block, _, suffix = rest.partition(".")
    if suffix != "json" or not (segment.isdecimal() and block.isdecimal()):
        return None
    return int(segment), int(block)
