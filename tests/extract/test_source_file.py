import hashlib
import os

import pytest

from extract.refusal import REASONS, ClipRefused
from extract.source_file import SourceReader


def refusal(path, root=None):
    with pytest.raises(ClipRefused) as caught:
        SourceReader().read(path, root)
    assert caught.value.reason in REASONS
    return caught.value.reason


def test_digests_a_file(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"x" * 3_000_000)
    source = SourceReader().read(file, tmp_path)
    assert source.size == 3_000_000
    assert source.digest == hashlib.blake2b(b"x" * 3_000_000, digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not_a_video"),
        (b"#EXTM3U\nseg.ts\n", "playlist"),
        (b"\xef\xbb\xbf#EXTM3U\n", "playlist"),
        (b"ffconcat version 1.0\nfile 'a.mp4'\n", "playlist"),
        (b"\n <?xml version='1.0'?><MPD/>", "playlist"),
    ],
    ids=["empty", "hls", "hls with a mark", "concat script", "dash"],
)
def test_refuses_content(tmp_path, content, reason):
    file = tmp_path / "a.mp4"
    file.write_bytes(content)
    assert refusal(file) == reason


def test_refuses_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo.mp4")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    assert refusal(tmp_path / "fifo.mp4") == "not_regular_file"
    assert refusal(tmp_path / "folder.mp4") == "not_regular_file"
    assert refusal(tmp_path / "none.mp4") == "missing_file"
    assert refusal(tmp_path / "a\0b.mp4") == "missing_file"
    assert refusal(tmp_path / "loop.mp4") in {"missing_file", "io"}


def test_follows_links_inside_the_root_only(tmp_path):
    root, outside = tmp_path / "root", tmp_path / "outside.mp4"
    root.mkdir()
    outside.write_bytes(b"video")
    (root / "real.mp4").write_bytes(b"video")
    (root / "inside.mp4").symlink_to(root / "real.mp4")
    (root / "away.mp4").symlink_to(outside)
    assert SourceReader().read(root / "inside.mp4", root).size == 5
    assert refusal(root / "away.mp4", root) == "outside_root"
    assert refusal(root / ".." / "outside.mp4", root) == "outside_root"
    assert SourceReader().read(root / "away.mp4").size == 5


def test_a_passing_read_error_is_tried_again(tmp_path, monkeypatch):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"video")
    failures = [OSError(5, "Input/output error")] * 2
    real_open = os.open

    def shaky(path, flags, *rest):
        if failures:
            raise failures.pop()
        return real_open(path, flags, *rest)

    monkeypatch.setattr(os, "open", shaky)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    assert SourceReader().read(file).size == 5
    failures.extend([OSError(5, "Input/output error")] * 3)
    assert refusal(file) == "io"
