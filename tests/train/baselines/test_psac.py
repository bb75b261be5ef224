import math

import torch

from train.baselines.psac import PSAC, sinusoids
from train.config import FeatureSizes, ModelConfig

N, D = 6, 8


def test_positions_are_those_of_vaswani():
    encoded = sinusoids(N, D)
    for place in range(N):
        for pair in range(D // 2):
            angle = place / 10000 ** (2 * pair / D)
            assert math.isclose(encoded[place, 2 * pair], math.sin(angle), abs_tol=1e-6)
            assert math.isclose(encoded[place, 2 * pair + 1], math.cos(angle), abs_tol=1e-6)


def test_frames_are_pooled_by_their_affinity_to_the_question():
    torch.manual_seed(0)
    sizes = FeatureSizes(dim=D, frames=N, patches=1)
    model = PSAC(ModelConfig(heads=2), sizes, 3).eval()
    cls, text, clip = torch.randn(1, N, D), torch.randn(1, D), torch.zeros(1, dtype=int)
    frames = model.self_attention(cls + sinusoids(N, D))[0]
    affinity = [torch.tanh(model.w_text(text[0]) @ model.w_video(frame)) for frame in frames]
    weights = torch.stack(affinity).softmax(0)
    pooled = sum(weight * frame for weight, frame in zip(weights, frames, strict=True))
    expected = model.classifier(torch.cat([pooled, text[0]]))
    torch.testing.assert_close(model(cls, torch.empty(1, N, 0, D), text, clip).logits[0], expected)
