import os
import random
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from extract.decode_pool import DecodePool
from extract.frame_request import FrameRequest
from extract.limits import DecodeLimits
from extract.refusal import REASONS

LIMITS = DecodeLimits(seconds=20.0)


@pytest.fixture(scope="module")
def pool():
    with DecodePool(1, LIMITS) as pool:
        yield pool


@pytest.fixture
def ask(pool, preprocess):
    def decode(path, root=None, **choices):
        request = FrameRequest(
            path=path,
            root=root,
            start_s=None,
            end_s=None,
            frames=8,
            preprocess=preprocess,
            limits=LIMITS,
            backend="pyav",
            **choices,
        )
        return pool.submit(request).result(timeout=60)

    return decode


def sound(path, cover=False):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if cover:
            drawn = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(picture.encode(drawn))
            container.mux(picture.encode())


def patched(path, video, old, new):
    content = video("patched-source.mp4", 10, size=(320, 240)).read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def huge_header(path):
    """A raw stream whose header promises 12336x12336 pixels ('00' twice, as bytes)."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 320, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((320, 320, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(picture))
        container.mux(stream.encode())
    content = path.read_bytes()
    for element in (b"\xb0\x82", b"\xba\x82"):
        assert element + b"\x01\x40" in content
        content = content.replace(element + b"\x01\x40", element + b"00")
    path.write_bytes(content)


def encrypted(path):
    keys = {"encryption_key": "00" * 15 + "01", "encryption_kid": "00" * 15 + "02"}
    with av.open(
        str(path), "w", options={"encryption_scheme": "cenc-aes-ctr", **keys}
    ) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")
        for _ in range(5):
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def cut(path, video, name, share):
    content = video(name, 200, options={"g": "10"}).read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


CONCAT = "ffconcat version 1.0\nfile '{name}'\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}\n#EXT-X-ENDLIST\n"
LISTS = {
    "concat.mp4": CONCAT,
    "concat-url.mp4": "ffconcat version 1.0\nfile 'http://127.0.0.1:1/a.mp4'\n",
    "hls.mp4": HLS,
    "hls.m3u8": HLS,
    "dash.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>',
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
}


def write_hostile(name, path, video):
    """Writes a file of a kind; returns what to ask for."""
    if name in LISTS:
        segment = shutil.copy(video("segment.ts", 5), path.parent / "segment.ts")
        path.write_text(LISTS[name].format(name=Path(segment).name))
    texts = {
        "empty.mp4": b"",
        "one-byte.mp4": b"\0",
        "text.mp4": b"not found\n" * 100,
        "page.mp4": b"<!DOCTYPE html><html><body>404</body></html>" * 20,
        "lfs.mp4": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64,
        "noise.mp4": random.Random(0).randbytes(100_000),
        "picture.mp4": b"\x89PNG\r\n\x1a\n" + bytes(200),
        "no-index.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000),
    }
    if name in texts:
        path.write_bytes(texts[name])
    elif name.startswith("sound"):
        sound(path, cover="cover" in name)
    elif name == "unknown-codec.mp4":
        patched(path, video, b"avc1\0\0\0\0\0\0\0\1", b"zzzz\0\0\0\0\0\0\0\1")
    elif name == "encrypted.mp4":
        encrypted(path)
    elif name == "huge-header.mkv":
        huge_header(path)
    elif name == "cut-early.mkv":
        cut(path, video, "whole.mkv", 0.04)
    elif name == "cut-index.mp4":
        cut(path, video, "whole.mp4", 0.9)
    elif name == "fifo.mp4":
        os.mkfifo(path)
    elif name == "folder.mp4":
        path.mkdir()
    elif name == "device.mp4":
        path.symlink_to("/dev/zero")
    elif name == "loop.mp4":
        path.symlink_to(path)
    elif name == "away.mp4":
        away = path.parents[1] / "away.mp4"
        away.write_bytes(video("v.mp4", 3).read_bytes())
        path.symlink_to(away)


CASES = [
    ("empty.mp4", {"not_a_video"}),
    ("one-byte.mp4", {"not_a_video"}),
    ("text.mp4", {"not_a_video"}),
    ("page.mp4", {"not_a_video"}),
    ("lfs.mp4", {"not_a_video"}),
    ("noise.mp4", {"not_a_video"}),
    ("picture.mp4", {"not_a_video"}),
    ("no-index.mp4", {"truncated"}),
    ("sound.mp4", {"no_video_stream"}),
    ("sound-and-cover.mp4", {"no_video_stream"}),
    ("unknown-codec.mp4", {"unsupported_codec"}),
    ("encrypted.mp4", {"unsupported_codec"}),
    ("huge-header.mkv", {"limit_exceeded"}),
    ("cut-early.mkv", {"truncated"}),
    ("cut-index.mp4", {"truncated"}),
    ("concat.mp4", {"playlist"}),
    ("concat-url.mp4", {"playlist"}),
    ("hls.mp4", {"playlist"}),
    ("hls.m3u8", {"playlist"}),
    ("dash.mpd", {"playlist"}),
    ("list.sdp", {"not_a_video"}),
    ("fifo.mp4", {"not_regular_file"}),
    ("folder.mp4", {"not_regular_file"}),
    ("device.mp4", {"outside_root"}),
    ("loop.mp4", {"missing_file", "io"}),
    ("away.mp4", {"outside_root"}),
    ("absent.mp4", {"missing_file"}),
    ("http:absent.mp4", {"missing_file"}),
]


@pytest.mark.parametrize(("name", "reasons"), CASES, ids=[name for name, _ in CASES])
def test_a_hostile_file_ends_as_one_row_with_its_reason(tmp_path, video, ask, name, reasons):
    root = tmp_path / "root"
    root.mkdir()
    write_hostile(name, root / name, video)
    clip = ask(root / name, root)
    assert clip.reason in reasons, clip.detail
    assert clip.reason in REASONS
    assert clip.pixels is None
    assert "\n" not in clip.detail
    good = ask(video("good.mp4", 3), None)
    assert good.reason == ""


def test_addresses_and_protocols_are_names_of_files_that_are_not_there(ask):
    for address in (
        "http://127.0.0.1:1/a.mp4",
        "concat:/etc/passwd|/etc/group",
        "subfile,,start,0,end,9,,:/etc/passwd",
        "pipe:0",
        "data:video/mp4;base64,AAAA",
        "lavfi:testsrc",
        "-i",
    ):
        assert ask(Path(address)).reason == "missing_file", address


def test_a_device_is_no_file_even_where_links_may_lead_anywhere(ask, tmp_path):
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    assert ask(tmp_path / "device.mp4").reason == "not_regular_file"


def test_the_unknown_codec_is_named(tmp_path, video, ask):
    write_hostile("unknown-codec.mp4", tmp_path / "a.mp4", video)
    assert "zzzz" in ask(tmp_path / "a.mp4").detail


def test_links_may_lead_into_an_admitted_folder(tmp_path, video, ask):
    root, shared = tmp_path / "root", tmp_path / "shared"
    root.mkdir()
    shared.mkdir()
    video("v.mp4", 3).rename(shared / "v.mp4")
    (root / "videos").symlink_to(shared)
    refused = ask(root / "videos" / "v.mp4", root)
    assert refused.reason == "outside_root"
    assert "--allow-root" in refused.detail
    assert "--follow-links" in refused.detail
    assert ask(root / "videos" / "v.mp4", root, extra_roots=(shared,)).reason == ""


def test_a_file_that_changes_while_it_is_read_is_not_trusted(
    tmp_path, video, preprocess, monkeypatch
):
    from extract import decode_process
    from extract.decode_process import _ClipAnswers

    path = video("growing.mp4", 5)

    def grow(file, limits, *, look=decode_process.probe_video):
        probe = look(file, limits)
        with file.open("ab") as more:
            more.write(b"more")
        return probe

    monkeypatch.setattr(decode_process, "probe_video", grow)
    request = FrameRequest(
        path=path, root=None, start_s=None, end_s=None, frames=4, preprocess=preprocess,
        limits=LIMITS, backend="pyav",
    )  # fmt: skip
    header, pixels = _ClipAnswers().answer(request)
    assert (header["status"], header["reason"], len(pixels)) == ("refused", "io", 0)


def test_every_damage_ends_in_a_row_and_twice_in_the_same(tmp_path, video, ask):
    """Bytes overwritten, cut out and cut off, anywhere in files of four kinds."""
    choice = random.Random(1)
    sources = [
        video(name, 60, codec=codec, options={"g": "10", "b": "1M"}).read_bytes()
        for name, codec in (
            ("a.mp4", "libx264"),
            ("a.mkv", "libvpx-vp9"),
            ("a.avi", "mpeg4"),
            ("a.ts", "libx264"),
        )
    ]
    reasons = []
    for number in range(60):
        content = bytearray(choice.choice(sources))
        for _ in range(choice.choice([1, 1, 20])):
            begin = choice.randrange(len(content))
            length = choice.choice([1, 40, 2000])
            match choice.randrange(3):
                case 0:
                    content[begin : begin + length] = choice.randbytes(length)
                case 1:
                    del content[begin : begin + length]
                case _:
                    del content[max(begin, 64) :]
        path = tmp_path / f"damaged-{number}.mp4"
        path.write_bytes(content)
        one, two = ask(path), ask(path)
        assert one.reason in REASONS | {""}
        assert (one.reason, one.flags, one.frame_index) == (two.reason, two.flags, two.frame_index)
        if one.pixels is not None:
            assert np.array_equal(one.pixels, two.pixels)
        reasons.append(one.reason)
    assert "" in reasons
    assert len(set(reasons)) > 2
    assert not {"timeout", "crashed"} & set(reasons)
