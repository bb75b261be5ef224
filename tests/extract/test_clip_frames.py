import csv

import av
import numpy as np
import pytest

from extract.clip_frames import frozen_flags, read_clip
from extract.frame_request import FrameRequest
from extract.limits import DecodeLimits
from extract.preprocessing import to_encoder_input
from extract.probe import probe_video
from extract.refusal import REASONS, ClipRefused
from extract.source_file import SourceReader


@pytest.fixture
def read(preprocess):
    def run(path, frames=10, start_s=None, end_s=None, backend="pyav", limits=None):
        request = FrameRequest(
            path=path,
            root=None,
            start_s=start_s,
            end_s=end_s,
            frames=frames,
            preprocess=preprocess,
            limits=limits or DecodeLimits(),
            backend=backend,
        )
        return read_clip(request, SourceReader().read(path), probe_video(path, request.limits))

    return run


@pytest.mark.parametrize("frames", [1, 3, 9, 10, 11])
def test_short_clips_repeat_frames(video, read, frames):
    clip = read(video(frames=frames))
    assert len(clip.pixels) == min(frames, 10)
    assert len(clip.slot) == len(clip.frame_index) == 10
    assert np.array_equal(
        clip.frame_index, np.minimum((np.arange(10) + 0.5) * frames / 10, frames).astype(int)
    )


def test_pixels_are_those_of_the_frames_named(video, read, preprocess, number_in):
    from extract.decoding import DecodeCount, pictures_by_order
    from extract.probe import probe_video

    path = video(frames=50)
    clip = read(path)
    distinct = np.unique(clip.frame_index)
    probe = probe_video(path, DecodeLimits())
    for place, rgb in enumerate(pictures_by_order(probe, distinct, DecodeCount())):
        assert number_in(rgb) == distinct[place]
        assert np.array_equal(clip.pixels[place], to_encoder_input(rgb, preprocess))


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [(1.0, 2.0, 10, 19), (None, 1.0, 0, 9), (4.0, None, 40, 49), (4.0, 4.0001, 40, 40)],
    ids=["inside", "from the start", "to the end", "an instant"],
)
def test_bounds(video, read, start, end, first, last):
    clip = read(video(frames=50), start_s=start, end_s=end)
    assert (clip.frame_index[0], clip.frame_index[-1]) == (first, last)
    assert clip.flags == ()


def test_bounds_beyond_the_video(video, read):
    path = video(frames=50)
    clip = read(path, start_s=4.0, end_s=60.0)
    assert clip.frame_index[-1] == 49
    assert clip.flags == ("end 60 s cut to the video's end at 5.000 s",)
    with pytest.raises(ClipRefused, match="begins at 5 s") as caught:
        read(path, start_s=5.0, end_s=60.0)
    assert caught.value.reason == "empty_clip"


def test_even_in_time_for_a_variable_rate(video, read):
    ticks = [*range(100), 1000, 1999]
    clip = read(video("vfr.mkv", len(ticks), ticks=ticks, options={"bf": "0"}), frames=4)
    assert clip.frame_index.tolist() == [99, 99, 100, 100]
    assert len(clip.pixels) == 2


def test_a_truncated_file_is_flagged(video, read):
    path = video("a.mkv", 200, options={"g": "10"})
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 4])
    clip = read(path)
    (flag,) = (flag for flag in clip.flags if "declared" in flag)
    decoded = int(flag.split()[1])
    assert 20 < decoded < 80
    assert clip.frame_index[-1] < decoded
    with pytest.raises(ClipRefused) as caught:
        read(path, limits=DecodeLimits(least_share=0.9))
    assert caught.value.reason == "truncated"


def test_a_hole_in_a_file_is_flagged_and_the_rest_used(video, read):
    path = video("a.mp4", 60, options={"bf": "0", "g": "10"})
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + len(content) // 2
    content[begin : begin + 300] = b"\xff" * 300
    path.write_bytes(content)
    clip = read(path, frames=60)
    assert any("damaged" in flag or "declared" in flag for flag in clip.flags)
    again = read(path, frames=60)
    assert np.array_equal(clip.pixels, again.pixels)


@pytest.mark.parametrize(
    ("pattern", "flags"),
    [
        ("abcdef", ()),
        ("aabbccdd", ()),
        ("abbbc", ("2 of 5 frames equal the one before; the longest run is 3",)),
        ("aaaabbc", ("4 of 7 frames equal the one before; the longest run is 4",)),
        ("a", ()),
    ],
)
def test_frozen_runs_are_counted(pattern, flags):
    pixels = np.array([np.full((4, 4, 3), ord(letter)) for letter in pattern], dtype=np.uint8)
    assert frozen_flags(pixels) == flags


def test_a_frozen_video_is_flagged(tmp_path, read):
    path = tmp_path / "frozen.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        for number in range(40):
            drawn = np.full((64, 64, 3), 6 * min(number, 20), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")))
        container.mux(stream.encode())
    (flag,) = read(path, frames=40).flags
    assert "frames equal the one before" in flag


def test_a_picture_size_that_changes_is_flagged(tmp_path, video, read):
    sizes = [(64, 64), (128, 96)]
    parts = [video(f"{size[0]}.h264", 20, size=size).read_bytes() for size in sizes]
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(parts))
    assert "the picture size changes: 64x64, 128x96" in read(path, frames=8).flags
    with pytest.raises(ClipRefused, match="128x96") as caught:
        read(path, frames=8, limits=DecodeLimits(pixels=128 * 96 - 1))
    assert caught.value.reason == "limit_exceeded"


def test_both_backends_give_the_same_clip(video, read):
    for name in ("a.mp4", "b.mkv", "c.ts"):
        path = video(name, 40, size=(128, 64))
        ours, theirs = read(path), read(path, backend="decord")
        assert np.array_equal(ours.pixels, theirs.pixels)
        assert np.array_equal(ours.frame_index, theirs.frame_index)
        assert theirs.backend.startswith("pyav" if name == "c.ts" else "decord")


def test_a_file_that_decord_fails_on_falls_back(video, read):
    """decord2 3.4 breaks on this width, silently in ``next`` and with an error in ``get_batch``."""
    path = video(frames=20, size=(96, 96))
    assert np.array_equal(read(path, backend="decord").pixels, read(path).pixels)


def test_samples_end_as_their_list_expects(samples, read):
    with (samples.parent / "videos.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ends = []
    for row in rows:
        try:
            clip = read(samples / row["file"], frames=8)
        except ClipRefused as refused:
            ends.append((row["file"], refused.reason in REASONS and "broken" in row["tags"]))
        else:
            assert not row["expect"].startswith("refuse"), row["file"]
            assert np.all(np.diff(clip.frame_time) >= 0)
            if "must be flagged" in row["expect"]:
                assert clip.flags, row["file"]
    assert [end for end in ends if not end[1]] == []
