"""Videos whose frames carry their own number, and a tiny CLIP saved to a file."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.numbered_videos import encode, number_in
from cache_schema import Preprocess
from extract.encoder_spec import EncoderSpec
from extract.model_architecture import read_architecture
from extract.model_loading import load_model

SAMPLES = Path(__file__).parents[3] / "shared" / "samples"

TINY_CONFIG = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 48,
        "head_width": 16,
        "patch_size": 16,
    },
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}

VideoMaker = Callable[..., Path]


def write_video(path: Path, frames: int = 30, **choices: object) -> Path:
    """Encodes numbered pictures."""
    encode(path, frames, **choices)
    return path


@pytest.fixture(scope="session")
def encode_video() -> VideoMaker:
    """Returns a function that writes a numbered video to a path."""
    return write_video


@pytest.fixture
def video(tmp_path: Path) -> VideoMaker:
    """Returns a function that writes a numbered video of a given name."""

    def make(name: str = "clip.mp4", frames: int = 30, **choices: object) -> Path:
        return write_video(tmp_path / name, frames, **choices)

    return make


@pytest.fixture
def preprocess() -> Preprocess:
    """Preprocessing of the tiny model."""
    return Preprocess(
        image_size=32,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


@pytest.fixture(scope="session")
def tiny_spec(tmp_path_factory: pytest.TempPathFactory) -> EncoderSpec:
    """A CLIP of random weights, saved as anybody's weights would be."""
    folder = tmp_path_factory.mktemp("tiny")
    config = folder / "tiny.json"
    config.write_text(json.dumps(TINY_CONFIG))
    drawn = EncoderSpec(model="tiny", model_config=config, random_init_seed=7)
    model = load_model(drawn, read_architecture("tiny", config))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "tiny.safetensors",
    )
    return EncoderSpec(model="tiny", model_config=config, weights=folder / "tiny.safetensors")


@pytest.fixture
def samples() -> Path:
    """Folder of real videos, which are not part of the project."""
    folder = SAMPLES / "videos"
    if not folder.is_dir():
        pytest.skip("no folder ../shared/samples beside the repository")
    return folder


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Keeps tests from fighting over cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(name="number_in")
def number_reader() -> Callable[[np.ndarray], int]:
    """Returns a function that reads the number out of a decoded picture."""
    return number_in
