"""Commits: the record, created exclusively, that makes a block exist or ends it for ever."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, cast

from cache_schema import field_rules
from cache_schema.blocks.block_claim import BlockClaim, parse_record_name
from cache_schema.errors import CorruptStore, Problem, SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.layout import COMMITS, FORMAT
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.sealed_json import seal, unseal
from cache_schema.storage.storage import Storage

NO_SLOT: Final = -1
"""The slot of a clip that failed."""

_RULES: Final[Mapping[str, Rule]] = {
    "format": field_rules.one_of(FORMAT),
    "segment": field_rules.integer(),
    "block": field_rules.integer(),
    "token": field_rules.text(empty=True),
    "job": field_rules.text(),
    "committed": field_rules.text(),
    "abandoned": field_rules.boolean(),
    "cls": field_rules.anything(),
    "clips": field_rules.sequence(field_rules.anything()),
    "replaces": field_rules.boolean(),
    "scale": field_rules.anything(),
}
_CLIP_RULES: Final[Mapping[str, Rule]] = {
    "slot": field_rules.integer(least=NO_SLOT),
    "patch": field_rules.anything(),
    "outcome": field_rules.anything(),
}
_FILE_RULES: Final[Mapping[str, Rule]] = {
    "bytes": field_rules.integer(least=1),
    "digest": field_rules.text(pattern="[0-9a-f]{32}"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSeal:
    """Size and BLAKE2b-128 of a shard file."""

    bytes: int
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CommittedClip:
    """One clip of a block: its outcome, and for a clip that is ok its slot and patch shard."""

    outcome: ClipOutcome
    slot: int
    patch: FileSeal | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockCommit:
    """What a commit file says."""

    segment: int
    block: int
    token: str
    job: str
    committed: str
    """When, ISO 8601 in UTC by the writer's clock; told to people, decided by nothing."""
    abandoned: bool
    """The block was ended without data; its slots are never used."""
    cls: FileSeal | None
    """The block's cls shard; None when no clip is ok."""
    clips: tuple[CommittedClip, ...]
    scale: FileSeal | None = None
    """The block's shard of int8 scales; None when no clip is ok, or patches are not int8."""
    replaces: bool = False
    """What it says of its clips goes before all that lower blocks say of them, ok or failed."""

    @classmethod
    def of_claim(
        cls,
        claim: BlockClaim,
        *,
        job: str,
        cls_file: FileSeal | None = None,
        scale_file: FileSeal | None = None,
        clips: tuple[CommittedClip, ...] = (),
        abandoned: bool = False,
    ) -> "BlockCommit":
        """Returns the commit of a claimed block, at the present time."""
        return cls(
            segment=claim.segment,
            block=claim.block,
            token=claim.token,
            job=job,
            committed=datetime.now(UTC).isoformat(timespec="microseconds"),
            abandoned=abandoned,
            cls=cls_file,
            clips=clips,
            scale=scale_file,
            replaces=claim.replaces and not abandoned,
        )

    def encode(self) -> bytes:
        """Returns the content of the commit's file."""
        clips = [
            {"slot": clip.slot, "patch": _seal_json(clip.patch), "outcome": clip.outcome.to_json()}
            for clip in self.clips
        ]
        document: dict[str, object] = {
            "format": FORMAT,
            "segment": self.segment,
            "block": self.block,
            "token": self.token,
            "job": self.job,
            "committed": self.committed,
            "abandoned": self.abandoned,
            "cls": _seal_json(self.cls),
            "clips": clips,
        }
        if self.replaces:
            document["replaces"] = True
        if self.scale is not None:
            document["scale"] = _seal_json(self.scale)
        return seal(document)


def read_commit(storage: Storage, name: str) -> BlockCommit:
    """Reads the commit of a block.

    Raises:
        CorruptStore: the record is damaged.
    """
    key = f"{COMMITS}/{name}"
    file = storage.name(key)
    document = unseal(storage.read(key), file)
    try:
        commit = _parse(document)
    except (SchemaError, ValueError) as error:
        raise CorruptStore(f"{file}: {error}", file=file) from error
    if (commit.segment, commit.block) != parse_record_name(name):
        raise CorruptStore(
            f"{file} is the commit of block {commit.segment}.{commit.block}, under another name; "
            f"rename it back.",
            file=file,
        )
    return commit


def _parse(sealed: Mapping[str, object]) -> BlockCommit:
    # Only commits that replace say so, and only those of int8 patches have scales.
    document = {"replaces": False, "scale": None, **sealed}
    problems = check_fields(document, _RULES)
    if problems:
        raise SchemaError("commit", problems)
    clips = []
    for position, entry in enumerate(cast("list[object]", document["clips"])):
        place = f"clips.{position}"
        clip = _object(entry, _CLIP_RULES, place)
        outcome = ClipOutcome.from_json(clip["outcome"])
        patch, slot = _file_seal(clip["patch"], f"{place}.patch"), cast("int", clip["slot"])
        is_ok = outcome.status is Status.OK
        # A clip that is ok has no patch shard in a store of one vector a frame.
        if is_ok != (slot != NO_SLOT) or (patch is not None and not is_ok):
            problems.append(Problem(place, f"has slot {slot} and status {outcome.status}"))
        clips.append(CommittedClip(outcome=outcome, slot=slot, patch=patch))
    cls_file, scale_file = (_file_seal(document[name], name) for name in ("cls", "scale"))
    if scale_file is not None and cls_file is None:
        problems.append(Problem("scale", "does not fit the clips"))
    if (cls_file is not None) != any(clip.slot != NO_SLOT for clip in clips):
        problems.append(Problem("cls", "does not fit the clips"))
    datetime.fromisoformat(str(document["committed"]))
    if problems:
        raise SchemaError("commit", problems)
    rest = {name: document[name] for name in ("segment", "block", "token", "job", "committed")}
    return BlockCommit(
        **rest,  # type: ignore[arg-type]
        abandoned=bool(document["abandoned"]),
        replaces=bool(document["replaces"]),
        cls=cls_file,
        scale=scale_file,
        clips=tuple(clips),
    )


def _seal_json(file: FileSeal | None) -> dict[str, object] | None:
    return None if file is None else {"bytes": file.bytes, "digest": file.digest}


def _file_seal(value: object, place: str) -> FileSeal | None:
    if value is None:
        return None
    return FileSeal(**_object(value, _FILE_RULES, place))  # type: ignore[arg-type]


def _object(value: object, rules: Mapping[str, Rule], place: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise SchemaError("commit", [(place, "is not an object")])
    problems = check_fields(value, rules, place)
    if problems:
        raise SchemaError("commit", problems)
    return value
