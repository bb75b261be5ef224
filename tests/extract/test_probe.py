import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from extract.limits import DecodeLimits
from extract.probe import probe_video, quarter_turns
from extract.refusal import ClipRefused

LIMITS = DecodeLimits()


@pytest.mark.parametrize("frames", [1, 3, 40])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.ts"])
def test_lists_presentation_times_in_order(video, name, frames):
    probe = probe_video(video(name, frames, options={"bf": "2"}), LIMITS)
    assert probe.timed
    assert np.allclose(probe.timestamps, np.arange(frames) / 10, atol=1e-3)
    assert (probe.width, probe.height, probe.codec) == (96, 64, "h264")
    assert probe.rotation == probe.hidden == 0


def test_reads_a_variable_rate(video):
    ticks = [0, 10, 11, 50, 300]
    probe = probe_video(video("vfr.mkv", 5, ticks=ticks, options={"bf": "0"}), LIMITS)
    assert np.allclose(probe.timestamps, np.array(ticks) / 100, atol=1.1e-3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_reads_the_rotation(video, rotation):
    assert probe_video(video(frames=3, rotation=rotation), LIMITS).rotation == rotation


@pytest.mark.parametrize(
    ("rotation", "turns"),
    [
        (0, 0),
        (90, 1),
        (-90, 3),
        (180, 2),
        (-180, 2),
        (270, 3),
        (33, 0),
        (float("nan"), 0),
        (-(2**63), 0),
    ],
)
def test_nonsense_rotation_is_none(rotation, turns):
    assert quarter_turns(rotation) == turns


def test_sound_is_no_video(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ClipRefused, match="streams found: audio") as caught:
        probe_video(path, LIMITS)
    assert caught.value.reason == "no_video_stream"


def test_takes_the_best_stream_not_the_first(tmp_path):
    """FFmpeg, and decord with it, prefers the stream of which more is there."""
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        streams[1].disposition = Disposition.default
        for stream, size in zip(streams, (32, 64), strict=True):
            stream.width = stream.height = size
        for stream, size, frames in zip(streams, (32, 64), (1, 30), strict=True):
            picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
            for _ in range(frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    probe = probe_video(path, LIMITS)
    assert (probe.stream_index, probe.width, probe.pts.size) == (1, 64, 30)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not found</html>" * 50, "not_a_video"),
        (b"version https://git-lfs.github.com/spec/v1\n" * 20, "not_a_video"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "truncated"),
    ],
    ids=["html", "pointer of git lfs", "mp4 without index"],
)
def test_refuses_other_files(tmp_path, content, reason):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(ClipRefused) as caught:
        probe_video(path, LIMITS)
    assert caught.value.reason == reason


@pytest.mark.parametrize("first_bytes", ["", "# a comment hides the first line\n\n"])
def test_never_follows_a_playlist(video, tmp_path, first_bytes):
    """Even where the look at the first bytes is deceived, the list of containers holds."""
    segment = video("seg.ts", 5)
    concat = tmp_path / "concat.mp4"
    concat.write_text(f"{first_bytes}ffconcat version 1.0\nfile '{segment.name}'\n")
    hls = tmp_path / "hls.mp4"
    hls.write_text(
        f"{first_bytes}#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment.name}\n#EXT-X-ENDLIST\n"
    )
    for path in (concat, hls):
        with pytest.raises(ClipRefused):
            probe_video(path, LIMITS)


@pytest.mark.parametrize(
    "limits", [DecodeLimits(pixels=96 * 64 - 1), DecodeLimits(aspect=1.4)], ids=["pixels", "aspect"]
)
def test_refuses_too_large_pictures(video, limits):
    with pytest.raises(ClipRefused, match="96x64") as caught:
        probe_video(video(frames=2), limits)
    assert caught.value.reason == "limit_exceeded"


def test_a_name_with_a_colon_is_no_protocol(video):
    assert probe_video(video("http:clip.mp4", 3), LIMITS).pts.size == 3


def test_a_short_picture_beside_long_sound_is_whole(tmp_path):
    """A file is cut short only if no stream fills the duration of its header."""
    path = tmp_path / "slides.mkv"
    with av.open(str(path), "w") as container:
        picture, sound = container.add_stream("mpeg4", rate=10), container.add_stream("aac", 8000)
        picture.width = picture.height = 64
        for number in range(300):
            if number < 10:
                drawn = np.full((64, 64, 3), number * 20, np.uint8)
                container.mux(picture.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 8000, 1024 * number
            frame.time_base = Fraction(1, 8000)
            container.mux(sound.encode(frame))
        container.mux(picture.encode())
        container.mux(sound.encode())
    probe = probe_video(path, LIMITS)
    assert (probe.pts.size, probe.declared_frames, probe.remarks) == (10, 10, ())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert 11 < probe_video(path, LIMITS).declared_frames < 100


def test_a_duration_out_of_all_proportion_is_not_believed(video, tmp_path):
    path = video("a.mkv", 20)
    content = path.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # Duration, a double in milliseconds
    path.write_bytes(content[:place] + struct.pack(">d", 143_165e6) + content[place + 8 :])
    probe = probe_video(path, LIMITS)
    assert probe.declared_frames == probe.pts.size == 20
    assert probe.remarks == ("the header's duration of 143165000 s is not credible",)


def test_what_is_odd_is_remarked(video):
    assert probe_video(video(options={"flags": "+ilme+ildct"}), LIMITS).remarks == (
        "interlaced; the fields are left as they are",
    )
