"""A process that makes the requests of a forked child, where obstore would wait for ever.

The child starts it as a fresh interpreter and talks to it through its standard input and output: a
message is a length (4 bytes, little endian), that many bytes of JSON, and the ``bytes`` of payload
that the JSON announces. It ends when its input does.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Final, cast

from cache_schema.errors import StoreUnreachable
from cache_schema.storage.durable_files import Buffer
from cache_schema.storage.object_client import (
    Fetched,
    ObjectClient,
    ObjectInfo,
    ObstoreClient,
    Piece,
    decode_error,
    encode_error,
)

_LENGTH_BYTES: Final = 4
_GONE: Final = "The process that makes this forked process's requests has ended"

Message = tuple[Mapping[str, object], bytearray]


class ServiceClient:
    """An ``ObjectClient`` that has a process of its own make the requests.

    Threads may share it; their requests wait for one another. The process ends with the last
    reference, and when this process does.

    Args:
        url: where the keys begin.
    """

    def __init__(self, url: str) -> None:
        # Not multiprocessing: it refuses children of daemons, as workers of data loaders are.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(  # noqa: S603 -- our own module, and no shell
            [sys.executable, "-c", f"from {__name__} import serve; serve()", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _end, self._process, os.getpid())

    def put(self, key: str, content: Buffer, *, create: bool) -> None:
        """Writes an object whole."""
        self._ask({"ask": "put", "key": key, "create": create}, content)

    def head(self, key: str) -> ObjectInfo:
        """Asks for an object's size and time."""
        answer, _ = self._ask({"ask": "head", "key": key})
        return ObjectInfo(*cast("list[object]", answer["info"]))  # type: ignore[arg-type]

    def read(self, pieces: Sequence[Piece]) -> list[Fetched | OSError]:
        """Reads pieces side by side."""
        answer, payload = self._ask({"ask": "read", "pieces": pieces})
        parts: list[Fetched | OSError] = []
        position, view = 0, memoryview(payload)
        for entry in cast("list[dict[str, object]]", answer["parts"]):
            if "kind" in entry:
                parts.append(decode_error(cast("dict[str, str]", entry)))
                continue
            end = position + cast("int", entry["length"])
            parts.append(Fetched(view[position:end], cast("int", entry["size"])))
            position = end
        return parts

    def list(self, folder: str, *, deep: bool, after: str = "") -> Iterator[ObjectInfo]:
        """Lists the objects below a folder, or directly in it."""
        answer, _ = self._ask({"ask": "list", "folder": folder, "deep": deep, "after": after})
        return (ObjectInfo(*info) for info in cast("list[list[object]]", answer["infos"]))  # type: ignore[arg-type]

    def delete(self, key: str) -> None:
        """Deletes an object; no error where there is none."""
        self._ask({"ask": "delete", "key": key})

    def _ask(self, question: Mapping[str, object], payload: Buffer = b"") -> Message:
        process = self._process
        with self._lock:
            try:
                _send(cast("IO[bytes]", process.stdin), question, [payload])
                message = _receive(cast("IO[bytes]", process.stdout))
            except OSError as error:
                raise StoreUnreachable(f"{_GONE}: {error}") from error
        if message is None:
            raise StoreUnreachable(f"{_GONE}; see its messages above.")
        if "kind" in message[0]:
            raise decode_error(cast("Mapping[str, str]", message[0]))
        return message


def _end(process: subprocess.Popen[bytes], pid: int) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            cast("IO[bytes]", pipe).close()
    if os.getpid() == pid:
        process.wait()
    else:
        process.returncode = 0  # Another process's child: not ours to wait for.


def serve() -> None:
    """Answers the questions on standard input, for the URL that is the one argument."""
    client: ObjectClient = ObstoreClient(sys.argv[1])
    questions, answers = sys.stdin.buffer, sys.stdout.buffer
    while (message := _receive(questions)) is not None:
        try:
            answer, payload = _answer(client, *message)
        except OSError as error:
            answer, payload = encode_error(error), []
        _send(answers, answer, payload)


def _answer(
    client: ObjectClient, question: Mapping[str, object], payload: bytearray
) -> tuple[Mapping[str, object], list[Buffer]]:
    ask, key = question["ask"], str(question.get("key"))
    if ask == "put":
        client.put(key, memoryview(payload), create=bool(question["create"]))
        return {}, []
    if ask == "head":
        return {"info": client.head(key)}, []
    if ask == "list":
        folder, after = str(question["folder"]), str(question["after"])
        return {"infos": list(client.list(folder, deep=bool(question["deep"]), after=after))}, []
    if ask == "delete":
        client.delete(key)
        return {}, []
    pieces = [Piece(*piece) for piece in cast("list[list[object]]", question["pieces"])]  # type: ignore[arg-type]
    parts: list[Mapping[str, object]] = []
    contents: list[Buffer] = []
    for part in client.read(pieces):
        if isinstance(part, OSError):
            parts.append(encode_error(part))
        else:
            parts.append({"length": len(part.content), "size": part.size})
            contents.append(part.content)
    return {"parts": parts}, contents


def _send(stream: IO[bytes], document: Mapping[str, object], payload: Sequence[Buffer]) -> None:
    size = sum(len(part) for part in payload)
    head = json.dumps({**document, "bytes": size}).encode()
    stream.write(len(head).to_bytes(_LENGTH_BYTES, "little") + head)
    for part in payload:
        stream.write(part)
    stream.flush()


def _receive(stream: IO[bytes]) -> Message | None:
    """Returns the next message, None where the stream ends."""
    length = stream.read(_LENGTH_BYTES)
    head = stream.read(int.from_bytes(length, "little"))
    if len(length) < _LENGTH_BYTES or not head:
        return None
    document = json.loads(head)
    payload = bytearray(document["bytes"])
    view = memoryview(payload)
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            return None
        view = view[count:]
    return document, payload
