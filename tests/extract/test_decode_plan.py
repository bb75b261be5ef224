from dataclasses import replace

import numpy as np
import pytest

from extract.decode_plan import plan_decoding
from extract.key_packet import Access, access_at
from extract.limits import DecodeLimits
from extract.probe import probe_video

CLOSED = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "2"}
OPEN = {"g": "20", "bf": "3", "x264-params": "open-gop=1:keyint=20:min-keyint=20:scenecut=0"}


@pytest.fixture(scope="module")
def probes(tmp_path_factory, encode_video):
    folder = tmp_path_factory.mktemp("plans")
    return {
        name: probe_video(
            encode_video(folder / name, 300, options=OPEN if "open" in name else CLOSED),
            DecodeLimits(),
        )
        for name in ("closed.mp4", "open.mkv", "stream.ts")
    }


def plan(probe, *wanted):
    return plan_decoding(probe, np.array(wanted, dtype=np.int32))


def place_of(probe, index):
    """Place in the file of a frame known by its place in presentation."""
    return int(np.flatnonzero(probe.pts == probe.ticks[index])[0])


def test_a_group_is_decoded_up_to_the_last_wanted_packet(probes):
    probe = probes["closed.mp4"]
    assert plan(probe, 45).runs == ((40, place_of(probe, 45) + 1),)
    assert plan(probe, 45, 47).runs == ((40, max(place_of(probe, i) for i in (45, 47)) + 1),)
    assert plan(probe, 40).runs == ((40, 41),)


def test_frames_of_every_group_are_read_in_order(probes):
    probe = probes["closed.mp4"]
    everything = plan(probe, *range(300))
    assert (everything.runs, everything.kind) == (((0, 300),), "in order")
    sparse = plan(probe, 5, 25, 45)
    assert (len(sparse.runs), sparse.kind, len(sparse.jumps)) == (3, "groups", 0)


def test_long_gaps_are_jumped_over(probes):
    probe = probes["closed.mp4"]
    far = plan(probe, 5, 25, 205)
    assert (far.kind, far.jumps) == ("seek", {2})
    assert plan(probe, 205).jumps == {0}
    assert far.packets < 40


def test_leading_pictures_take_the_group_before(probes):
    probe = probes["open.mkv"]
    assert probe.leading.any()
    leading = int(np.flatnonzero(probe.leading)[3])
    shown = int(np.searchsorted(probe.ticks, probe.pts[leading]))
    group = int(probe.group[leading])
    begins = np.flatnonzero(probe.keyframe)
    assert plan(probe, shown).runs == ((int(begins[group - 1]), leading + 1),)


@pytest.mark.parametrize(
    "change",
    [{"hidden": 1}, {"access": Access.LATE}, {"codec": "mpeg4"}, {"container": "mpegts"}],
    ids=lambda change: next(iter(change)),
)
def test_files_without_sure_key_frames_are_decoded_whole(probes, change):
    probe = replace(probes["closed.mp4"], **change)
    assert plan(probe, 205).runs == ((0, 300),)
    assert plan(probes["stream.ts"], 205).runs == ((0, 300),)


AVCC = bytes([1, 100, 0, 10, 0xFF])
HVCC = bytes([1, *bytes(20), 0xFF])


def unit(*content):
    return len(content).to_bytes(4) + bytes(content)


@pytest.mark.parametrize(
    ("codec", "packet", "access"),
    [
        ("h264", unit(9, 16) + unit(0x65, 0x88), Access.CLEAN),
        ("h264", unit(6, 6, 1, 0xC0, 0x80) + unit(0x41, 0x9A), Access.OPEN),
        ("h264", unit(6, 5, 2, 7, 7, 6, 1, 0x24, 0x80) + unit(0x41, 0x9A), Access.LATE),
        ("h264", unit(0x41, 0x88), Access.OPEN),
        ("h264", unit(0x41, 0x9A), Access.LATE),
        ("h264", unit(9, 16), Access.LATE),
        ("h264", b"\xff\xff\xff\xff\x65", Access.LATE),
        ("hevc", unit(0x26, 1), Access.CLEAN),
        ("hevc", unit(0x40, 1) + unit(0x2A, 1), Access.OPEN),
        ("hevc", unit(0x02, 1), Access.LATE),
        ("vp9", b"", Access.CLEAN),
    ],
    ids=[
        "IDR", "recovery at once", "recovery later", "intra slice", "inter slice", "no slice",
        "cut short", "HEVC IDR", "HEVC CRA", "HEVC trailing", "another codec",
    ],
)  # fmt: skip
def test_key_packets_are_not_taken_at_their_word(codec, packet, access):
    extradata = HVCC if codec == "hevc" else AVCC
    assert access_at(memoryview(packet), codec, extradata) is access


def test_units_that_are_delimited_otherwise_are_left_to_the_container():
    packet = memoryview(b"\0\0\0\1\x41\x9a")
    assert access_at(packet, "h264", None) is Access.OPEN
    assert access_at(packet, "h264", b"\0\0\0\1\x67\x64") is Access.OPEN
