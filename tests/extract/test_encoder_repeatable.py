"""The same features whoever works on which clip when, and how far another batch size moves them."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from cache_schema import Clip, open_store
from extract.encoder import ClipEncoder, load_encoder
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, run_extraction

FRAMES = 7
BATCH = 8
# Wide enough for the matrix kernels of real towers, and their remainders.
CONFIG = {
    "embed_dim": 96,
    "vision_cfg": {
        "image_size": 80, "layers": 2, "width": 192, "head_width": 64, "patch_size": 16
    },
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    config = tmp_path_factory.mktemp("vit") / "vit.json"
    config.write_text(json.dumps(CONFIG))
    return EncoderSpec(model="vit", model_config=config, random_init_seed=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory, encode_video):
    folder = tmp_path_factory.mktemp("videos")
    lengths = (30, 7, 3, 19, 1, 25, 12, 40, 2, 9)  # short ones share a batch with others
    return [
        Clip(clip_id=f"v{n}", path=encode_video(folder / f"v{n}.mp4", n, size=(96, 80)))
        for n in lengths
    ]


def features(store_path, clips):
    store = open_store(store_path)
    names = sorted(clip.clip_id for clip in clips)
    return store.read_cls(names), store.read_patches(names)


def extract(clips, store, spec, workers=0, **options):
    tally = run_extraction(
        clips,
        store,
        spec,
        frames=FRAMES,
        workers=workers,
        options=JobOptions(decoders=1, **{"batch_frames": BATCH, **options}),
    )
    assert tally.ok == len(clips)
    return features(store, clips)


@pytest.fixture(scope="module")
def calm(clips, spec, tmp_path_factory):
    """One worker, the given order."""
    return extract(clips, tmp_path_factory.mktemp("stores") / "calm", spec)


def units_apart(left, right):
    """Distance in units in the last place of float16, numbers below 1/1024 counted in its unit."""
    largest = np.maximum(np.maximum(np.abs(left), np.abs(right)), np.float16(2**-10))
    return np.abs(left.astype(np.float64) - right.astype(np.float64)) / np.spacing(largest)


@pytest.mark.parametrize(
    ("workers", "seed"),
    [
        pytest.param(0, 1, id="here, shuffled"),
        pytest.param(2, 2, id="two workers, shuffled"),
        pytest.param(1, 3, id="one worker", marks=pytest.mark.slow),
        pytest.param(4, 4, id="four workers", marks=pytest.mark.slow),
    ],
)
def test_workers_and_order_do_not_change_a_bit(clips, spec, calm, tmp_path, workers, seed):
    order = np.random.default_rng(seed).permutation(len(clips))
    shuffled = [clips[place] for place in order]
    for ours, reference in zip(extract(shuffled, tmp_path / "s", spec, workers), calm, strict=True):
        assert np.array_equal(ours, reference)


@pytest.mark.parametrize("batch", [1, 5])
def test_another_batch_size_moves_features_by_one_unit_at_most(clips, spec, calm, tmp_path, batch):
    found = extract(clips, tmp_path / "s", spec, batch_frames=batch)
    for ours, reference in zip(found, calm, strict=True):
        assert units_apart(ours, reference).max() <= 1


def test_short_memory_is_reported_and_moves_features_by_one_unit_at_most(
    clips, spec, calm, tmp_path, monkeypatch
):
    """An encoder that holds three pictures of a batch of eight."""
    whole = ClipEncoder._tokens
    sizes = set()

    def short(encoder, pixels):
        if len(pixels) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        sizes.add(len(pixels))
        return whole(encoder, pixels)

    monkeypatch.setattr(ClipEncoder, "_tokens", short)
    notes = []

    class Display:
        def start(self, plan): ...
        def clip(self, done): ...
        def block(self, report): ...
        def end(self, tally): ...
        def note(self, message):
            notes.append(message)

    run_extraction(
        clips,
        tmp_path / "s",
        spec,
        frames=FRAMES,
        workers=0,
        progress=Display(),
        options=JobOptions(decoders=1, batch_frames=BATCH),
    )
    for ours, reference in zip(features(tmp_path / "s", clips), calm, strict=True):
        assert units_apart(ours, reference).max() <= 1
    assert sizes == {2}  # 8, 4, 2
    assert any("2 pictures are encoded at once" in note for note in notes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-SigLIP", "EVA02-B-16"])
def test_real_towers_keep_both_promises(name):
    encoder = load_encoder(EncoderSpec(model=name, random_init_seed=0))
    size = encoder.preprocess.image_size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (10, size, size, 3), dtype=np.uint8)
    reference = np.concatenate([part.reshape(10, -1) for part in encoder.encode_frames(pixels)], 1)
    order = rng.permutation(10)
    again = np.concatenate(
        [part.reshape(10, -1) for part in encoder.encode_frames(pixels[order])], 1
    )
    assert np.array_equal(again, reference[order])
    for batch in (1, 3, 5):
        for begin in range(0, 10 - batch + 1, batch):
            part = pixels[begin : begin + batch]
            rows = np.concatenate([p.reshape(batch, -1) for p in encoder.encode_frames(part)], 1)
            assert units_apart(rows, reference[begin : begin + batch]).max() <= 1


@pytest.mark.slow
def test_bf16_is_within_a_ten_thousandth_of_fp32():
    """Cosine of every token; the identity says which of the two made a store."""
    encoders = {
        precision: load_encoder(
            EncoderSpec(model="ViT-B-32", random_init_seed=0, precision=precision)
        )
        for precision in ("fp32", "bf16")
    }
    pixels = np.random.default_rng(0).integers(0, 256, (6, 224, 224, 3), dtype=np.uint8)
    tokens = [
        torch.from_numpy(np.concatenate([cls[:, None], patch], 1)).double()
        for cls, patch in (encoder.encode_frames(pixels) for encoder in encoders.values())
    ]
    assert torch.cosine_similarity(*tokens, dim=-1).min() >= 0.9999
    identities = {encoder.identity(100).digest for encoder in encoders.values()}
    assert len(identities) == 2


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
)
@pytest.mark.filterwarnings("default")  # torch's own, about what the machine lacks
def test_a_compiled_tower_moves_features_by_two_units_at_most(spec):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 80, 80, 3), dtype=np.uint8)
    eager, compiled = load_encoder(spec), load_encoder(replace(spec, compile=True))
    for ours, reference in zip(
        compiled.encode_frames(pixels), eager.encode_frames(pixels), strict=True
    ):
        assert units_apart(ours, reference).max() <= 2
    assert compiled.identity(4) == eager.identity(4)
