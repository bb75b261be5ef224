"""A store described in Croissant 1.1, the JSON-LD that data set searches and loaders read.

Vocabulary: http://mlcommons.org/croissant/1.1. The manifest is a record set over Parquet files; the
features, for which Croissant has no reader, are sets of files.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from cache_schema.identity import FeatureIdentity
from cache_schema.layout import StoreLayout
from cache_schema.manifest.manifest_row import SCHEMA
from cache_schema.manifest.manifest_version import ManifestVersion
from cache_schema.manifest.part_entry import parquet_key
from cache_schema.store_root import StoreRoot

CONFORMS_TO: Final = "http://mlcommons.org/croissant/1.1"
NOT_STATED: Final = "not stated"

# The context of the specification; a reader compares the terms that it knows.
_CONTEXT: Final[dict[str, object]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{
        term: f"cr:{term}"
        for term in (
            "arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract",
            "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray",
            "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source",
            "subField", "transform",
        )
    },
}  # fmt: skip

_ABOUT: Final = {
    "clip_id": "Unique name of the clip.",
    "status": "ok, or failed: then there are no features.",
    "reason": "Short code of a failure; empty for a clip that is ok.",
    "detail": "One line about the failure.",
    "segment": "Number of the segment that holds the clip's features.",
    "block": "Number of the block in its segment.",
    "slot": "Row of the clip in the arrays of its segment; -1 for a clip that failed.",
    "replaces": "Whether the clip's block was written to replace earlier features.",
    "start_s": "Begin of the clip in its video, in seconds; null for the video's begin.",
    "end_s": "End of the clip in its video, in seconds; null for the video's end.",
    "frame_index": "Place of each frame used among the frames of the video.",
    "frame_time": "Presentation time of each frame used, in seconds.",
    "distinct_frames": "How many of the frames used differ.",
    "source_path": "The video file, relative to its data set's folder.",
    "source_bytes": "Size of the video file.",
    "source_digest": "BLAKE2b-128 of the video file.",
    "backend": "Decoder and its version.",
    "flags": "Remarks that are no failure.",
    "cls_digest": "BLAKE2b-128 of the shard that holds the CLS features of the clip's block.",
    "patch_digest": "BLAKE2b-128 of the shard of the clip's patch features.",
    "committed": "When the features were committed.",
}


def croissant_of(
    root: StoreRoot, version: ManifestVersion, *, licence: str | None, url: str | None
) -> dict[str, object]:
    """Returns the Croissant document of a store at one version of its manifest.

    Reads the manifest's Parquet files, for their SHA-256.

    Args:
        root: the store.
        version: the manifest's version.
        licence: licence of the features; ``not stated`` by default.
        url: where the store is published; by default files are named by their places in its folder.
    """
    parts = [parquet_key(part.name) for part in version.parts]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": root.identity.name,
        "description": description(root.identity, version),
        "citeAs": f"{root.identity.name}, video features made with VideoDistill-cache",
        "license": licence or NOT_STATED,
        **({"url": url} if url else {}),
        "version": f"1.{version.number}.0",
        "datePublished": (version.created or root.created)[:10],
        "isLiveDataset": True,
        "keywords": ["video features", "CLIP", root.identity.encoder],
        "distribution": [
            *(_file_object(root, key, url) for key in ("zarr.json", *parts)),
            *_file_sets(root.layout),
        ],
        "recordSet": [_record_set(number, parts, root.identity) for number in range(len(parts))],
    }


def description(identity: FeatureIdentity, version: ManifestVersion) -> str:
    """Returns a paragraph about what a store holds."""
    kept = f"{identity.dtype} ({identity.variant})" if identity.variant else identity.dtype
    return (
        f"Features of {version.ok} video clips, made with the frozen encoder {identity.encoder}: "
        f"{identity.frames} frames of a clip, and of every frame a CLS token and {identity.patches} "
        f"patch tokens of width {identity.dim}, {kept}. A Zarr v3 store of VideoDistill-cache "
        f"with the identity {identity.digest}, at version {version.number} of its manifest."
    )


def _file_object(root: StoreRoot, key: str, url: str | None) -> dict[str, object]:
    content = root.storage.read(key)
    is_part = key.endswith(".parquet")
    return {
        "@type": "cr:FileObject",
        "@id": key,
        "name": key,
        "description": "Part of the manifest." if is_part else "The store's identity and sizes.",
        "contentUrl": f"{url.rstrip('/')}/{key}" if url else key,
        "contentSize": f"{len(content)} B",
        "encodingFormat": "application/x-parquet" if is_part else "application/json",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _file_sets(layout: StoreLayout) -> Iterator[dict[str, object]]:
    for array in layout.arrays():
        about = "one file per clip" if array == "patch" else "one file per block"
        yield {
            "@type": "cr:FileSet",
            "@id": f"{array}-shards",
            "name": f"{array}-shards",
            "description": f"Shards of the Zarr v3 array {array} of every segment, {about}.",
            "encodingFormat": "application/octet-stream",
            "includes": f"seg-*/{array}/c.*",
        }


def _record_set(number: int, parts: Sequence[str], identity: FeatureIdentity) -> dict[str, object]:
    """Describes one part of the manifest; parts are read one by one, for Croissant joins no files."""
    name = "clips" if len(parts) == 1 else f"clips-{number + 1}"
    about = "One row per clip, failed ones included."
    if len(parts) > 1:
        about += f" Part {number + 1} of {len(parts)}: a later part's row of a clip counts."
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": about,
        "key": {"@id": f"{name}/clip_id"},
        "field": [
            _field(column, name, parts[number], identity.frames)
            for column in SCHEMA
            if column.name in _ABOUT
        ],
    }


def _field(column: pa.Field, record_set: str, file: str, frames: int) -> dict[str, object]:
    shape = {}
    kind = column.type
    if pa.types.is_list(kind):
        kind = kind.value_type
        shape = {"isArray": True, "arrayShape": "-1" if column.name == "flags" else str(frames)}
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column.name}",
        "name": column.name,
        "description": _ABOUT[column.name],
        "dataType": _data_type(kind),
        **shape,
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    if pa.types.is_floating(kind):
        return "sc:Float"
    return "sc:DateTime" if pa.types.is_timestamp(kind) else "sc:Text"
