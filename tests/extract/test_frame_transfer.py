import numpy as np
import pytest
import torch

from extract.encoder import load_encoder
from extract.frame_transfer import FrameTransfer

PIXELS = torch.arange(6, dtype=torch.uint8).reshape(2, 3)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_features_come_back_in_the_order_of_their_batches(device):
    transfer = FrameTransfer(torch.device(device))
    started = [transfer.start(PIXELS + n, lambda batch: batch.half() * 2) for n in range(5)]
    for number, pending in enumerate(started):
        features = pending.wait()
        assert features.device.type == "cpu"
        assert torch.equal(features, (PIXELS + number).half() * 2)


@pytest.mark.parametrize("device", DEVICES)
def test_an_error_of_the_device_is_raised_where_the_batch_starts(device):
    def full(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        FrameTransfer(torch.device(device)).start(PIXELS, full)


def test_an_encoder_started_ahead_gives_what_it_gives_at_once(tiny_spec):
    encoder = load_encoder(tiny_spec)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8) for _ in range(3)]
    started = [encoder.start(batch) for batch in batches]
    for batch, pending in zip(batches, started, strict=True):
        encoded = pending.wait()
        cls, patch = encoder.encode_frames(batch)
        assert np.array_equal(encoded.cls, cls)
        assert np.array_equal(encoded.patch, patch)
        assert encoded.finite.all()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_gives_the_features_of_the_cpu(tiny_spec, precision):
    from dataclasses import replace

    pixels = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)
    reference = load_encoder(tiny_spec).encode_frames(pixels)
    other = load_encoder(replace(tiny_spec, device="cuda", precision=precision))
    for ours, theirs in zip(other.encode_frames(pixels), reference, strict=True):
        tensors = torch.from_numpy(ours).double(), torch.from_numpy(theirs).double()
        assert torch.cosine_similarity(*tensors, dim=-1).min() > 0.999
