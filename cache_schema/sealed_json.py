"""JSON records that carry their own checksum, so that a changed byte is never believed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from cache_schema.errors import CorruptStore

_CHECKSUM: Final = "checksum"


def seal(document: Mapping[str, object]) -> bytes:
    """Returns a record as one line of canonical JSON, its BLAKE2b-128 under ``checksum``."""
    return _canonical({**document, _CHECKSUM: _checksum(document)}) + b"\n"


def unseal(content: bytes, file: str) -> dict[str, object]:
    """Returns the record that ``seal`` wrote, without its checksum.

    Args:
        content: what stands in the file.
        file: full name of the file, to be told when it is damaged.

    Raises:
        CorruptStore: the content is no sealed record, or was changed.
    """
    try:
        document = json.loads(content)
    except ValueError as error:
        raise CorruptStore(f"{file} is not a JSON record: {error}.", file=file) from error
    # Byte for byte: a changed last digit of a number may parse to the same number.
    if not isinstance(document, dict) or content != seal(_without_checksum(document)):
        raise CorruptStore(
            f"{file} does not have the checksum that was written with it; restore it from a backup.",
            file=file,
        )
    return _without_checksum(document)


def _without_checksum(document: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in document.items() if name != _CHECKSUM}


def _checksum(document: Mapping[str, object]) -> str:
    return hashlib.blake2b(_canonical(document), digest_size=16).hexdigest()


def _canonical(document: Mapping[str, object]) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=True)
    return text.encode("ascii")
