import io
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.numbered_videos import encode, number_in
from cache_schema import InputError
from pipelines.cli import app
from pipelines.contact_sheet import SheetFrame, sheet_png, without_padding


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames") / "clip.mp4"
    encode(path, 200, size=(128, 64))
    return path


def run(*words):
    return CliRunner().invoke(app, ["frames", *map(str, words)], catch_exceptions=True)


def test_draws_the_frames_that_extraction_takes(video, tmp_path):
    sheet = tmp_path / "sheet.png"
    done = run(video, "--out", sheet, "--frames", 6, "--start", 11.4, "--end", 17.4, "--tile", 384)
    assert done.exit_code == 0, done.output
    assert "6 frames, 6 distinct, from 11.900 s to 16.900 s" in done.output
    assert "by pyav" in done.output
    drawn = np.asarray(Image.open(sheet).convert("RGB"))
    assert drawn.shape[1] == 4 + 3 * (384 + 4)  # three in a row
    left_behind = [4 + column * 388 for column in range(3)]
    # The label covers the first bits of a number; the others are there to be read.
    for column, number in zip(left_behind, (119, 129, 139), strict=True):
        tile = drawn[26 : 26 + 192, column : column + 384].copy()
        tile[:, :192] = 0
        assert number_in(tile) == number >> 6 << 6


def test_tells_the_frames_as_json_without_writing(video, tmp_path):
    done = run(video, "--frames", 4, "--json")
    told = json.loads(done.output)
    assert [frame["index"] for frame in told["frames"]] == [25, 75, 125, 175]
    assert told["backend"].startswith("pyav")
    assert told["sheet"] is None
    assert list(tmp_path.iterdir()) == []


def test_repeated_frames_are_drawn_once(tmp_path):
    encode(tmp_path / "short.mp4", 2, size=(128, 64))
    done = run(tmp_path / "short.mp4", "--frames", 10)
    assert "10 frames, 2 distinct" in done.output
    assert "#1  0.100 s  x5" in done.output


def test_a_refused_video_says_why(tmp_path):
    (tmp_path / "text.mp4").write_text("not found")
    done = run(tmp_path / "text.mp4", "--json")
    assert done.exit_code == 1
    assert json.loads(done.output)["reason"] == "not_a_video"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "clip.mp4"), "ends in .png"),
        (("--start", "4", "--end", "2"), "must be later"),
        (("--backend", "magic"), "pyav or decord or torchcodec"),
    ],
    ids=["overwriting the video", "bounds", "backend"],
)
def test_wrong_input_is_refused(video, words, message):
    done = run(video, *words)
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert video.read_bytes()[4:8] == b"ftyp"


def test_padding_is_cropped_and_black_sheets_are_drawn():
    pixels = np.zeros((2, 32, 32, 3), dtype=np.uint8)
    assert without_padding(pixels).shape == (2, 32, 32, 3)
    pixels[0, 8:24] = 200
    assert without_padding(pixels).shape == (2, 16, 32, 3)
    frames = [SheetFrame(index=n, time=n / 10, repeats=1) for n in range(2)]
    drawn = Image.open(io.BytesIO(sheet_png(pixels, frames, "two", columns=1)))
    assert drawn.height == 26 + 2 * (16 + 4)
