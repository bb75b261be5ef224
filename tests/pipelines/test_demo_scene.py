"""The demo's scenes: what the questions rely on holds in every one of them."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.datasets.demo.drawing import render, shape_mask
from pipelines.datasets.demo.scene import (
    COLORS,
    EVENTS_PER_VIDEO,
    FPS,
    FRAME_SIZE,
    SECONDS_RANGE,
    SHAPES,
    Scene,
    sample_scene,
)

SCENES = [sample_scene(1, split, i) for split in ("train", "val", "test") for i in range(60)]


def test_equal_arguments_give_equal_scenes_and_pixels():
    again = sample_scene(1, "train", 3)
    assert again == sample_scene(1, "train", 3)
    first, second = (next(render(again)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "other", [(2, "train", 3), (1, "val", 3), (1, "train", 4), (1, "encoder", 3)]
)
def test_no_two_scenes_come_from_the_same_seed(other):
    scene, another = sample_scene(1, "train", 3), sample_scene(*other)
    assert scene.clutter_seed != another.clutter_seed
    assert scene.events != another.events


def test_lengths_are_as_promised():
    for scene in SCENES:
        assert SECONDS_RANGE[0] - 1 / FPS <= scene.frames / FPS <= SECONDS_RANGE[1]
        assert scene.frames > 100
        assert len(scene.events) == EVENTS_PER_VIDEO
        for event in scene.events:
            assert 0.02 <= event.length / scene.frames <= 0.08


def test_events_do_not_overlap_and_lie_inside():
    for scene in SCENES:
        ends = [0, *(e.end_frame for e in scene.events)]
        starts = [*(e.start_frame for e in scene.events), scene.frames]
        assert all(start > end for start, end in zip(starts, ends, strict=True))


def test_every_event_shows_in_at_least_two_of_100_even_frames():
    for scene in SCENES:
        sampled = ((np.arange(100) + 0.5) / 100 * scene.frames).astype(int)
        for event in scene.events:
            inside = (sampled >= event.start_frame) & (sampled < event.end_frame)
            assert inside.sum() >= 2


def test_a_word_names_one_thing():
    for scene in SCENES:
        things = scene.things
        assert len({t.shape for t in things}) == len(things)
        assert len({t.color for t in things}) == len(things)
        assert {t.shape for t in things} < set(SHAPES)
        assert {t.color for t in things} < set(COLORS)


def test_pixels_are_coloured_in_events_and_grey_elsewhere():
    """An independent look: colour saturation per frame against the scene's time line."""
    scene = sample_scene(1, "test", 0)
    saturation = [int((f.max(2).astype(int) - f.min(2)).max()) for f in render(scene)]
    for number, found in enumerate(saturation):
        things = _shown(scene, number)
        if not things:
            assert found < 60, f"frame {number} should be clutter"
        elif any(color != "white" for color in things):
            assert found > 90, f"frame {number} should show {things}"


def _shown(scene: Scene, number: int) -> list[str]:
    event = next((e for e in scene.events if e.start_frame <= number < e.end_frame), None)
    if event is None:
        return []
    return [event.thing.color] + ([event.companion.color] if event.companion else [])


def test_frames_are_square_rgb():
    frame = next(render(sample_scene(1, "val", 1)))
    assert frame.shape == (FRAME_SIZE, FRAME_SIZE, 3)
    assert frame.dtype == np.uint8


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_distinct_and_mostly_inside_their_box(shape):
    mask = shape_mask(shape, 40, 0)
    assert mask.shape == (40, 40)
    assert 0.1 < mask.mean() < 0.8
    others = [shape_mask(other, 40, 0) for other in SHAPES if other != shape]
    assert min(float(np.abs(mask - other).mean()) for other in others) > 0.05


def test_circle_matches_a_circle_drawn_by_pillow_at_size():
    reference = Image.new("L", (400, 400), 0)
    ImageDraw.Draw(reference).ellipse((20, 20, 380, 380), fill=255)
    small = np.asarray(reference.resize((40, 40), Image.Resampling.BOX), float) / 255
    assert np.abs(shape_mask("circle", 40, 0) - small).mean() < 0.02
