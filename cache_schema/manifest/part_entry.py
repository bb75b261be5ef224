"""What a version's record says of one part of the manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from cache_schema import field_rules
from cache_schema.errors import SchemaError
from cache_schema.field_rules import Rule, check_fields
from cache_schema.layout import MANIFEST

_digest = field_rules.text(pattern="[0-9a-f]{32}")

_RULES: Final[Mapping[str, Rule]] = {
    "name": _digest,
    "rows": field_rules.integer(least=1, most=2**32 - 1),
    "ok": field_rules.integer(),
    "bytes": field_rules.integer(least=1),
    "digest": _digest,
    "index_digest": _digest,
    "head_digest": _digest,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PartEntry:
    """One part of the manifest: a Parquet file and its index, neither ever changed."""

    name: str
    """Random, 32 hexadecimal digits; both files are named after it."""
    rows: int
    ok: int
    """How many of the rows are of clips with features."""
    bytes: int
    """Size of the Parquet file."""
    digest: str
    """BLAKE2b-128 of the Parquet file."""
    index_digest: str
    """BLAKE2b-128 of the index."""
    head_digest: str
    """BLAKE2b-128 of the index's head."""

    def to_json(self) -> dict[str, object]:
        """Returns the entry as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object) -> "PartEntry":
        """Reads what ``to_json`` wrote.

        Raises:
            SchemaError: it is something else.
        """
        if not isinstance(value, Mapping):
            raise SchemaError("part", [("", "is not an object")])
        if problems := check_fields(value, _RULES):
            raise SchemaError("part", problems)
        return cls(**value)

    @property
    def keys(self) -> tuple[str, str]:
        """Keys of the part's two files."""
        return parquet_key(self.name), index_key(self.name)


def parquet_key(name: str) -> str:
    """Returns the key of a part's Parquet file."""
    return f"{MANIFEST}/part-{name}.parquet"


def index_key(name: str) -> str:
    """Returns the key of a part's index."""
    return f"{MANIFEST}/part-{name}.index"
