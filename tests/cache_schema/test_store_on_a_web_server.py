"""A store on a web server can be read, and only read."""

import http.server
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_schema import (
    CorruptStore,
    FeatureIdentity,
    StoreAbsent,
    StoreError,
    StoreWriter,
    create_store,
    open_store,
    verify_store,
)

Write = Callable[..., None]
PATCH = "seg-000000/patch/c.1.0.0.0"
RemoteStore = Any
"""A ``conftest.RemoteStore``."""


class _Ranges(http.server.BaseHTTPRequestHandler):
    """A web server of a folder that knows ranges, as any real one does; http.server's does not."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, *, body: bool = True) -> None:
        path = self.server.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, status = path.read_bytes(), 200
        size, asked = len(content), re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers["Range"] or "")
        if asked:
            first = int(asked[1]) if asked[1] else max(size - int(asked[2]), 0)
            last = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
            status, content = 206, content[first : last + 1]
        self.send_response(status)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def web_url(filled) -> Iterator[str]:
    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        folder = filled.path.parent

    with Server(("127.0.0.1", 0), _Ranges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{filled.path.name}/"
        server.shutdown()


def test_a_store_on_a_web_server_can_be_read(filled, web_url: str, tmp_path: Path) -> None:
    for store in (open_store(web_url), open_store(web_url, cache=tmp_path / "cache")):
        assert store.clip_ids == filled.ok
        np.testing.assert_array_equal(store.read_patches(filled.ok), filled.patch(filled.ok))
        frames = [[4, 0, 2]] * len(filled.ok)
        np.testing.assert_array_equal(
            store.read_patches(filled.ok, frames), filled.patch(filled.ok)[:, [4, 0, 2]]
        )
        np.testing.assert_array_equal(store.read_cls(filled.ok), filled.cls(filled.ok))
        assert store.outcome("c2").reason == "truncated"
    (filled.path / PATCH).unlink()
    with pytest.raises(CorruptStore, match="'c1', is missing"):
        open_store(web_url).read_patches(["c1"])


def test_a_store_on_a_web_server_can_only_be_read(
    filled, web_url: str, identity: FeatureIdentity
) -> None:
    before = sorted(file for file in filled.path.rglob("*"))
    with pytest.raises(StoreAbsent):
        open_store(web_url + "nothing")
    for call in (
        lambda: create_store(web_url + "new", identity),
        lambda: StoreWriter(web_url, identity).claim(["new"]),
        lambda: verify_store(web_url),
    ):
        with pytest.raises(StoreError, match=r"can only be read|cannot be listed"):
            call()
    assert sorted(file for file in filled.path.rglob("*")) == before
