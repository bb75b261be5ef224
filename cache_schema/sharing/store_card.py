"""A store's card: a README as data set hubs show it, and Croissant metadata for programs."""

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Final

from cache_schema import field_rules
from cache_schema.errors import InputError
from cache_schema.identity import FeatureIdentity
from cache_schema.manifest.manifest_version import ManifestVersion, read_version
from cache_schema.sharing.croissant import NOT_STATED, croissant_of, description
from cache_schema.sharing.store_listing import StoreInfo, describe_store
from cache_schema.storage.durable_files import replace_file
from cache_schema.store_root import read_root

README: Final = "README.md"
CROISSANT: Final = "croissant.json"

_SHOWN: Final = 20
_SIZE_CATEGORIES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
# All that Markdown, HTML, autolinks and mentions begin with.
_SPECIAL: Final = frozenset("\\`*_{}[]()<>#|~&!:@$")
_line: Final = field_rules.text(longest=200)


def card_of(
    location: str | PathLike[str], *, licence: str | None = None, url: str | None = None
) -> dict[str, bytes]:
    """Returns the card of a store, at the newest version of its manifest: file name -> content.

    Args:
        location: the store.
        licence: licence of the features, such as ``cc-by-4.0``; stated as not stated by default.
        url: where the store is published; by default files are named by their places in its folder.

    Raises:
        InputError: licence or URL are no printable lines, or the URL is none.
        StoreAbsent, StoreForeign, StoreOlder, StoreNewer, CorruptStore: as ``open_store``.
    """
    for name, value in (("licence", licence), ("URL", url)):
        if value is not None and (problem := _line(value)) is not None:
            raise InputError(f"The {name} {problem}.")
    if url is not None and not url.startswith(("https://", "http://", "s3://", "gs://", "az://")):
        raise InputError(f"{url!r} is no URL; it begins with https://, s3://, gs:// or az://.")
    root = read_root(location)
    version = read_version(root)
    info = describe_store(location, version.number)
    croissant = croissant_of(root, version, licence=licence, url=url)
    return {
        README: "\n".join(_readme(info, version, licence)).encode(),
        CROISSANT: (json.dumps(croissant, indent=2) + "\n").encode(),
    }


def write_card(folder: Path, card: Mapping[str, bytes]) -> None:
    """Writes a card's files into a folder, in place of older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in card.items():
        replace_file(folder / name, content)


def _readme(info: StoreInfo, version: ManifestVersion, licence: str | None) -> Iterator[str]:
    identity = info.identity
    yield from _front_matter(info, licence)
    yield f"# {_text(identity.name)}"
    yield ""
    yield _text(description(identity, version))
    yield ""
    yield f"- Licence: {_text(licence or NOT_STATED)}"
    yield f"- Created: {_text(info.created)}; version {info.version} of the manifest: {version.created}"
    yield f"- Size: {info.bytes} bytes in {info.files} files"
    yield f"- Clips with features: {info.clips}; of fewer than {identity.frames} different frames: {info.short_clips}"
    yield f"- Clips that failed in extraction: {info.failed}"
    if info.loss is not None:
        yield (
            f"- Loss of this variant ({_text(identity.variant)}): mean cosine "
            f"{info.loss.mean_cosine:.6f}, least {info.loss.min_cosine:.6f}, largest difference "
            f"{info.loss.max_abs:.3g}"
        )
    yield ""
    yield "## How it was made"
    yield ""
    yield from _table(("field", "value"), _identity_rows(identity))
    counted = {
        "Decoders": ("decoder", info.backends),
        "Failures": ("reason", info.failures),
        "Remarks": ("remark on clips that have features", info.flags),
    }
    for title, (name, counts) in counted.items():
        if counts:
            yield f"## {title}"
            yield ""
            yield from _table((name, "clips"), _some(counts))
    yield from _reading(identity)


def _front_matter(info: StoreInfo, licence: str | None) -> Iterator[str]:
    """YAML; a JSON string is one in YAML too, so that no value can end it early."""
    clips = info.clips
    category = next((name for limit, name in _SIZE_CATEGORIES if clips < limit), "n>10M")
    yield "---"
    # Hubs know the word unknown, and refuse words that they do not know.
    yield f"license: {_yaml(licence or 'unknown')}"
    yield f"pretty_name: {_yaml(info.identity.name)}"
    yield "tags:"
    for tag in ("video", "features", "clip", "zarr", "croissant", info.identity.encoder):
        yield f"  - {_yaml(tag)}"
    yield "size_categories:"
    yield f"  - {_yaml(category)}"
    yield "---"
    yield ""


def _identity_rows(identity: FeatureIdentity) -> Iterator[tuple[str, str]]:
    for name, value in identity.to_json().items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", json.dumps(held)) for inner, held in value.items())
        else:
            yield name, json.dumps(value, ensure_ascii=False)
    yield "digest", identity.digest


def _some(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    listed = list(counts.items())
    yield from ((name or "not recorded", str(count)) for name, count in listed[:_SHOWN])
    if len(listed) > _SHOWN:
        rest = sum(count for _, count in listed[_SHOWN:])
        yield f"{len(listed) - _SHOWN} others", str(rest)


def _table(header: tuple[str, str], rows: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield f"| {header[0]} | {header[1]} |"
    yield "|---|---|"
    yield from (f"| {_text(name)} | {_text(value)} |" for name, value in rows)
    yield ""


def _reading(identity: FeatureIdentity) -> Iterator[str]:
    yield "## How it is read"
    yield ""
    yield "```python"
    yield "from cache_schema import open_store  # pip install videodistill-cache"
    yield ""
    yield "store = open_store('path/of/this/store')"
    yield "clip = store.clip_ids[0]"
    yield f"store.read_cls([clip])  # float16 [1, {identity.frames}, {identity.dim}]"
    if identity.patches:
        shape = f"[1, {identity.frames}, {identity.patches}, {identity.dim}]"
        yield f"store.read_patches([clip])  # float16 {shape}"
    yield "```"
    yield ""
    yield "Any reader of Zarr v3 opens it too; the manifest is Parquet, and `croissant.json` describes it."
    yield ""


def _text(value: str) -> str:
    """Returns text as Markdown that shows it as it is, whatever it holds."""
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in value)


def _yaml(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
