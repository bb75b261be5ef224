"""What must be the same in every process of a job, or the features of one store would differ."""

import hashlib
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import cache_schema
import extract
from cache_schema import InputError
from extract.encoder_spec import EncoderSpec, digest_weights

_PACKAGES: Final = (
    "torch", "torchvision", "open_clip_torch", "timm", "numpy", "zarr", "av", "decord2", "decord",
    "torchcodec",
)  # fmt: skip
_ABSENT: Final = "absent"

Versions = Mapping[str, str]
"""Name to version, or to a digest."""


class MixedVersions(InputError):  # noqa: N818 -- says what is the case
    """A worker would make other features than the process that started the job."""


def versions_here(spec: EncoderSpec) -> dict[str, str]:
    """Returns what this process would make features with.

    Args:
        spec: the encoder; the digest of its weights, as this machine has them, is part of it.
    """
    found = {"python": platform.python_version(), "code": _code()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = _ABSENT
    if spec.weights is not None:
        try:
            found["weights"] = digest_weights(spec.weights)
        except InputError as error:
            found["weights"] = str(error)
    return found


def require_same(expected: Versions, found: Versions, worker: str) -> None:
    """Compares a worker with the process that started the job.

    Args:
        expected: of that process.
        found: of the worker.
        worker: name of the worker, for the message.

    Raises:
        MixedVersions: with everything that differs.
    """
    differing = [
        f"{name}: {_shown(found.get(name, _ABSENT))} there, {_shown(expected.get(name, _ABSENT))} here"
        for name in sorted({*expected, *found})
        if found.get(name, _ABSENT) != expected.get(name, _ABSENT)
    ]
    if differing:
        raise MixedVersions(
            f"Worker {worker} differs from the process that starts the job, and would make other "
            f"features: {'; '.join(differing)}. Start all workers in the same environment."
        )


@lru_cache(maxsize=1)
def _code() -> str:
    """Digests this project's own source, which may change without its version."""
    digest = hashlib.blake2b(digest_size=8)
    for package in (cache_schema, extract):
        folder = Path(package.__path__[0])
        for file in sorted(folder.rglob("*.py")):
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _shown(value: str) -> str:
    return value[:12] if len(value) == 64 else value
