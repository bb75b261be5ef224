import av
import numpy as np
import pytest

from extract.decoding import DecodeCount, PyavDecoder
from extract.limits import DecodeLimits
from extract.probe import probe_video
from extract.upright_rgb import RgbConverter

LEVELS = 3.0
MATRICES = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}
"""Kr and Kb of BT.709, of what says nothing, of BT.601 and of BT.2020, by FFmpeg's number."""


def rgb_by_the_book(yuv, bits, full, matrix):
    """Equations 20 to 38 of ITU-T H.273, in floating point."""
    kr, kb = MATRICES[matrix]
    most, step, middle = 2**bits - 1, 2 ** (bits - 8), 2 ** (bits - 1)
    y, u, v = yuv
    if full:
        y, u, v = y / most, (u - middle) / most, (v - middle) / most
    else:
        y, u, v = (y - 16 * step) / (219 * step), *((c - middle) / (224 * step) for c in (u, v))
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.array([red, green, blue]) * 255, 0, 255)


def flat_frame(layout, values, size=(64, 48)):
    frame = av.VideoFrame(*size, layout)
    for plane, value, component in zip(frame.planes, values, frame.format.components, strict=True):
        kind = np.uint16 if component.bits > 8 else np.uint8
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind).tobytes())
    return frame


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize(
    ("layout", "bits"),
    [
        ("yuv420p", 8),
        ("yuv422p", 8),
        ("yuv444p", 8),
        ("yuv420p10le", 10),
        ("yuv422p10le", 10),
        ("yuv444p12le", 12),
    ],
)
def test_colours_of_every_depth_range_and_matrix(layout, bits, matrix, full):
    choice, step = np.random.default_rng(0), 2 ** (bits - 8)
    for _ in range(20):
        yuv = [
            int(choice.integers(low, high)) * step for low, high in ((40, 200), *[(96, 160)] * 2)
        ]
        frame = flat_frame(layout, yuv)
        frame.colorspace, frame.color_range = matrix, 2 if full else 1
        expected = rgb_by_the_book([float(value) for value in yuv], bits, full, matrix)
        assert np.abs(RgbConverter()(frame) - expected).max() <= LEVELS


@pytest.mark.parametrize(("layout", "most"), [("gray", 255), ("gray10le", 1023)])
def test_gray_is_read_as_full_range(layout, most):
    for value in (0, most // 3, most):
        rgb = RgbConverter()(flat_frame(layout, [value]))
        assert np.abs(rgb.astype(float) - 255 * value / most).max() <= 1


@pytest.mark.parametrize("alpha", [0, 100, 255])
def test_transparent_pictures_lie_over_black(alpha):
    opaque = RgbConverter()(flat_frame("yuv420p", [150, 110, 140])).astype(float)
    rgb = RgbConverter()(flat_frame("yuva420p", [150, 110, 140, alpha]))
    assert np.abs(rgb - opaque * alpha / 255).max() <= 1
    packed = np.full((8, 8, 4), (200, 100, 50, alpha), dtype=np.uint8)
    rgb = RgbConverter()(av.VideoFrame.from_ndarray(packed, format="rgba"))
    assert np.abs(rgb - np.array([200, 100, 50]) * alpha / 255).max() <= 1


def test_palettes_are_looked_up():
    picture = np.zeros((16, 16), dtype=np.uint8)
    picture[:8] = 1
    palette = np.zeros((256, 4), dtype=np.uint8)
    palette[:2] = [(255, 10, 20, 30), (255, 200, 150, 100)]
    frame = av.VideoFrame.from_ndarray((picture, palette), format="pal8")
    rgb = RgbConverter()(frame)
    assert rgb[0, 0].tolist() == [200, 150, 100]
    assert rgb[-1, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("codec", "layout", "name"),
    [
        ("ffv1", "yuv420p", "a.mkv"),
        ("ffv1", "yuv422p10le", "a.mkv"),
        ("ffv1", "gray", "a.mkv"),
        ("ffv1", "yuva420p", "a.mkv"),
        ("qtrle", "argb", "a.mov"),
        ("mjpeg", "yuvj420p", "a.mov"),
        ("libvpx-vp9", "yuv420p", "a.webm"),
        ("libsvtav1", "yuv420p10le", "a.mkv"),
        ("libx265", "yuv420p10le", "a.mp4"),
    ],
)
def test_files_keep_their_colours(tmp_path, codec, layout, name):
    colour = np.array([90, 140, 200]) if layout != "gray" else np.array([120, 120, 120])
    options = {"x265-params": "log-level=none:lossless=1"} if codec == "libx265" else {"crf": "4"}
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options if "lib" in codec else {})
        stream.width, stream.height, stream.pix_fmt = 96, 64, layout
        flat = np.full((64, 96, 3), colour, dtype=np.uint8)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(flat, format="rgb24")))
        container.mux(stream.encode())
    probe = probe_video(tmp_path / name, DecodeLimits())
    wanted = np.array([1], dtype=np.int32)
    (rgb,) = PyavDecoder().pictures(probe, wanted, DecodeCount())
    assert np.abs(rgb[20:40, 20:60].astype(float) - colour).max() <= LEVELS
