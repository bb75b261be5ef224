"""The demo's CLIP: small enough to ship, made as its script says, and as good as its card says."""

import re

import numpy as np
import pytest
import torch

from extract.encoder import load_encoder
from pipelines.datasets.demo.captions import Caption
from pipelines.datasets.demo.encoder_files import CARD_PATH, ENCODER_DIR, WEIGHTS_PATH
from pipelines.datasets.demo.encoder_training import (
    PROMPTS,
    EncoderTraining,
    card,
    matching_loss,
    render_moments,
    train_encoder,
    truth_matrix,
)
from pipelines.datasets.demo.scene import COLORS, SHAPES, SPLIT_CODES, Event, Thing
from pipelines.datasets.registry import find
from pipelines.encoders import encoder_spec


def test_the_weights_are_small_enough_to_ship():
    assert WEIGHTS_PATH.stat().st_size <= 20_000_000
    assert {p.suffix for p in ENCODER_DIR.iterdir()} == {".json", ".safetensors", ".md"}


def test_its_renders_share_no_seed_with_any_split_of_the_demo():
    codes = [code for split, code in SPLIT_CODES.items() if split != "encoder"]
    assert SPLIT_CODES["encoder"] not in codes


def test_zero_shot_accuracy_through_the_extraction_path_is_what_the_card_says():
    """Loaded by the code that loads any open_clip model, on renders of scenes it never saw."""
    encoder = load_encoder(encoder_spec(find("demo")))
    size = encoder.preprocess.image_size
    renders = render_moments(EncoderTraining().seed, 20_000, 60, size)
    shown = [(i, e.thing) for i, e in enumerate(renders.events) if e and e.companion is None]
    cls, patch = encoder.encode_frames(np.ascontiguousarray(renders.pixels[[i for i, _ in shown]]))
    assert patch.shape == (len(shown), 16, 128)
    said = {k: float(v) for k, v in re.findall(r"\| (\w+) \| ([\d.]+) \|", CARD_PATH.read_text())}
    for kind, key, names in (("shape", "shape", SHAPES), ("color", "colour", tuple(COLORS))):
        text, truncated = encoder.encode_text([PROMPTS[kind].format(name) for name in names])
        text /= np.linalg.norm(text, axis=1, keepdims=True)
        guessed = (cls.astype(np.float32) @ text.T).argmax(1)
        right = [names[g] == getattr(t, kind) for g, (_, t) in zip(guessed, shown, strict=True)]
        assert truncated == 0
        assert np.mean(right) == pytest.approx(said[key], abs=0.05)
        assert np.mean(right) > 0.85


def test_a_sentence_may_match_several_pictures():
    star = Event(
        thing=Thing(shape="star", color="red"), action="rising", start_frame=0, end_frame=3
    )
    ring = Event(
        thing=Thing(shape="ring", color="red"), action="rising", start_frame=0, end_frame=3
    )
    captions = [
        Caption(text="a red object", claims=((None, "red"),)),
        Caption(text="a ring", claims=(("ring", None),)),
        Caption(text="grey clutter", claims=()),
    ]
    expected = [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert truth_matrix([star, ring, None], captions).tolist() == expected


def test_with_one_match_each_the_loss_is_clips():
    """Against Radford et al.'s pseudo-code: cross-entropy of the diagonal, both ways."""
    torch.manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(5, 8), dim=1) for _ in range(2))
    logits = 7.0 * image @ text.T
    labels = torch.arange(5)
    both = [torch.nn.functional.cross_entropy(x, labels) for x in (logits, logits.T)]
    found = matching_loss(image, text, torch.tensor(7.0), torch.eye(5))
    torch.testing.assert_close(found, sum(both) / 2)


@pytest.mark.parametrize("warm_up", [1, 8])
def test_a_schedule_that_cannot_be_is_refused(warm_up):
    with pytest.raises(ValueError, match="warm_up"):
        EncoderTraining(steps=8, warm_up=warm_up)


def test_the_script_trains_and_writes_weights_and_card(tmp_path):
    lines = []
    config = EncoderTraining(scenes=4, held_out_scenes=2, steps=8, batch=8, warm_up=2)
    accuracy = train_encoder(config, tmp_path, lines.append)
    assert (tmp_path / WEIGHTS_PATH.name).stat().st_size == pytest.approx(
        WEIGHTS_PATH.stat().st_size, rel=0.01
    )
    assert (tmp_path / CARD_PATH.name).read_text() == card(config, accuracy)
    assert any("step" in line for line in lines)
