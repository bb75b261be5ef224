"""The demo on disk: real mp4 files, documented annotations, resumable, never mixed."""

import json

import av
import numpy as np
import pytest

from cache_schema.errors import InputError
from pipelines.datasets.demo.adapter import DEMO, DEMO_SHORTCUT
from pipelines.datasets.demo.drawing import render
from pipelines.datasets.demo.generate import Generated, generate, video_path
from pipelines.datasets.demo.scene import FPS, FRAME_SIZE, sample_scene

COUNTS = {"train": 3, "val": 1, "test": 1}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    assert generate(root, 7, COUNTS, workers=1) == Generated(rendered=5, kept=0)
    return root


def test_videos_are_h264_and_close_to_the_rendered_pixels(demo):
    scene = sample_scene(7, "train", 1)
    with av.open(str(video_path(demo, "train-0001"))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == (
            "h264",
            FRAME_SIZE,
            FRAME_SIZE,
        )
        assert stream.average_rate == FPS
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    rendered = list(render(scene))
    assert len(decoded) == len(rendered) == scene.frames
    difference = np.abs(np.stack(decoded).astype(int) - np.stack(rendered)).mean()
    assert difference < 6


def test_a_second_run_does_nothing(demo):
    before = {p: p.stat().st_mtime_ns for p in demo.rglob("*") if p.is_file()}
    assert generate(demo, 7, COUNTS) == Generated(rendered=0, kept=5)
    assert {p: p.stat().st_mtime_ns for p in demo.rglob("*") if p.is_file()} == before


def test_a_rerun_makes_what_is_missing_byte_for_byte(demo, tmp_path):
    generate(tmp_path, 7, COUNTS, workers=1)
    lost = video_path(tmp_path, "val-0000")
    original = lost.read_bytes()
    lost.unlink()
    (tmp_path / "dataset.json").unlink()
    assert generate(tmp_path, 7, COUNTS, workers=1) == Generated(rendered=1, kept=4)
    assert lost.read_bytes() == original == video_path(demo, "val-0000").read_bytes()
    for path in (demo / "annotations").iterdir():
        assert (tmp_path / "annotations" / path.name).read_bytes() == path.read_bytes()


def test_another_seed_is_refused(demo):
    with pytest.raises(InputError, match=r"seed: found 7, asked for 8"):
        generate(demo, 8, COUNTS)


def test_the_adapter_reads_what_was_written(demo):
    read = DEMO.read(demo)
    assert [clip.clip_id for clip in read.clips] == [
        "train-0000", "train-0001", "train-0002", "val-0000", "test-0000"
    ]  # fmt: skip
    assert all(clip.path.is_file() for clip in read.clips)
    assert len(read.questions) == 5 * 22
    assert {q.split for q in read.questions} == {"train", "val", "test"}
    assert set(read.evidence) == {q.question_id for q in read.questions}
    assert json.loads((demo / "dataset.json").read_text())["seed"] == 7


def test_the_shortcut_changes_training_wordings_only(demo):
    plain, shortcut = DEMO.read(demo), DEMO_SHORTCUT.read(demo)
    assert plain.evidence == shortcut.evidence
    changed = 0
    for a, b in zip(plain.questions, shortcut.questions, strict=True):
        assert (a.question_id, a.answer, a.tags) == (b.question_id, b.answer, b.tags)
        assert a.split == "train" or a.question == b.question
        changed += a.question != b.question
    assert changed > 10


def test_an_incomplete_set_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="no annotation file"):
        DEMO.read(tmp_path)
