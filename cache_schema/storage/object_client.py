"""Requests to an object store or web server through obstore, in this process."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Protocol

from cache_schema.errors import InputError, StoreDenied, StoreUnreachable
from cache_schema.storage.durable_files import Buffer

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import ObjectStore

PARALLEL: Final = 16
"""Requests under way at once. One GET of S3 brings 50 to 100 MB/s and waits 0.1 s first."""

_CONNECT: Final = timedelta(seconds=10)
_REQUEST: Final = timedelta(minutes=5)
_RETRY_FOR: Final = timedelta(minutes=2)


class Piece(NamedTuple):
    """A part of an object: some bytes from ``start``, or, where that is None, its last bytes."""

    key: str
    start: int | None = 0
    length: int | None = None
    """None: all that follows."""


class Fetched(NamedTuple):
    """What was read of a piece; shorter where the object ends."""

    content: Buffer
    size: int
    """Size of the whole object."""


class ObjectInfo(NamedTuple):
    """An object in a listing."""

    key: str
    size: int
    modified: float
    """By the server's clock, in seconds since 1970."""


class ObjectClient(Protocol):
    """The requests that a store needs. Errors name key and reason: StoreUnreachable, FileNotFoundError."""

    def put(self, key: str, content: Buffer, *, create: bool) -> None:
        """Writes an object whole; with ``create`` only where there is none (FileExistsError)."""

    def head(self, key: str) -> ObjectInfo:
        """Asks for an object's size and time."""

    def read(self, pieces: Sequence[Piece]) -> list[Fetched | OSError]:
        """Reads pieces side by side; a piece that cannot be read does not spoil the others."""

    def list(self, folder: str, *, deep: bool, after: str = "") -> Iterator[ObjectInfo]:
        """Lists the objects below a folder, or directly in it, with keys that follow ``after``."""

    def delete(self, key: str) -> None:
        """Deletes an object; no error where there is none."""


class ObstoreClient:
    """An ``ObjectClient`` in this process. Threads may share it; a forked child must not use it.

    Credentials come from the environment alone, as obstore documents it for each kind of store.
    Transient errors are tried again, up to two minutes.

    Args:
        url: where the keys begin.

    Raises:
        InputError: obstore is not installed, or refuses the URL.
    """

    def __init__(self, url: str) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            raise InputError(
                f"Stores at URLs need the package obstore, which is not installed ({error}). "
                f"Install it with: pip install 'videodistill-cache[remote]'"
            ) from error
        self._obstore = obstore
        try:
            self._store: ObjectStore = from_url(
                url,
                client_options={
                    "timeout": _REQUEST,
                    "connect_timeout": _CONNECT,
                    "allow_http": url.startswith("http://") or _http_allowed(),
                },
                retry_config={"max_retries": 8, "retry_timeout": _RETRY_FOR},
            )
        except (obstore.exceptions.BaseError, ValueError) as error:
            raise InputError(f"The store {url} cannot be opened: {_reason(error)}") from error
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="object-store")

    def put(self, key: str, content: Buffer, *, create: bool) -> None:
        """Writes an object in one request, so that it appears whole or not at all."""
        mode: Literal["create", "overwrite"] = "create" if create else "overwrite"
        try:
            self._obstore.put(self._store, key, content, mode=mode, use_multipart=False)
        except FileNotFoundError as error:
            raise StoreUnreachable(f"{key}: {_reason(error)}; is there such a bucket?") from error
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise _translated(error, key) from error

    def head(self, key: str) -> ObjectInfo:
        """Asks for an object's size and time."""
        try:
            return _info(self._obstore.head(self._store, key))
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise _translated(error, key) from error

    def read(self, pieces: Sequence[Piece]) -> list[Fetched | OSError]:
        """Reads pieces side by side."""
        if len(pieces) == 1:
            return [self._read(pieces[0])]
        return list(self._pool.map(self._read, pieces))

    def list(self, folder: str, *, deep: bool, after: str = "") -> Iterator[ObjectInfo]:
        """Lists the objects below a folder, or directly in it."""
        prefix = folder or None
        try:
            if deep:
                offset = after or None
                pages = self._obstore.list(self._store, prefix, offset=offset, chunk_size=1000)
                for page in pages:
                    yield from map(_info, page)
            else:
                found = self._obstore.list_with_delimiter(self._store, prefix)["objects"]
                yield from (_info(meta) for meta in found if meta["path"] > after)
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise _translated(error, folder) from error

    def delete(self, key: str) -> None:
        """Deletes an object; no error where there is none."""
        try:
            self._obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except (self._obstore.exceptions.BaseError, OSError) as error:
            raise _translated(error, key) from error

    def _read(self, piece: Piece) -> Fetched | OSError:
        key, start, length = piece
        try:
            options: GetOptions = {}
            if start is None:
                options = {"range": {"suffix": length or 0}}
            elif length is not None:
                options = {"range": (start, start + length)}
            elif start:
                options = {"range": {"offset": start}}
            result = self._obstore.get(self._store, key, options=options)
            return Fetched(memoryview(result.bytes()), result.meta["size"])
        except (self._obstore.exceptions.BaseError, OSError) as error:
            if "status code: 416" in _reason(error):  # It ends before the piece begins.
                return Fetched(b"", 0)
            return _translated(error, key)


def obstore_is_forked() -> bool:
    """Tells whether this process was forked from one that had obstore loaded.

    The threads of obstore's one runtime do not survive a fork, and it cannot start them again: any
    request would wait for ever.
    """
    return _forked


def encode_error(error: OSError) -> Mapping[str, str]:
    """Returns an error of these requests as plain data, for another process."""
    return {"kind": type(error).__name__, "message": str(error)}


def decode_error(document: Mapping[str, str]) -> OSError:
    """Returns the error that ``encode_error`` described."""
    return _KINDS.get(document["kind"], StoreUnreachable)(document["message"])


_KINDS: Final[Mapping[str, type[OSError]]] = {
    kind.__name__: kind for kind in (FileNotFoundError, FileExistsError, StoreDenied)
}


def _translated(error: Exception, key: str) -> OSError:
    message = f"{key}: {_reason(error)}"
    name = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(message)
    if name == "AlreadyExistsError":
        return FileExistsError(message)
    if name in {"PermissionDeniedError", "UnauthenticatedError"}:
        return StoreDenied(f"{message}; check the credentials in the environment")
    return StoreUnreachable(message)


def _reason(error: Exception) -> str:
    """Returns the first line of an error without what may hold a secret.

    Signed requests carry secrets in a URL's query, and servers repeat in the body of a refusal what
    was signed. Of the body only the error's code is kept.
    """
    text = str(error)
    line = re.sub(r"\?[^\s\"')]*", "?...", text.partition("\n")[0].partition("<")[0])
    code = re.search(r"<Code>(\w{1,60})</Code>", text)
    return line.strip(" :-") + (f" ({code[1]})" if code else "")


def _info(meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"].timestamp())


def _http_allowed() -> bool:
    # obstore asks the environment itself, but not where other client options are given.
    names = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")
    return any(os.environ.get(name, "").lower() in {"1", "true"} for name in names)


_forked = False


def _after_fork() -> None:
    global _forked  # noqa: PLW0603 -- a fact of the process
    _forked = _forked or "obstore" in sys.modules


os.register_at_fork(after_in_child=_after_fork)
