import pytest
import torch

from train.config import FeatureSizes, ModelConfig
from train.model.video_distill import VideoDistill

SIZES = FeatureSizes(dim=64, frames=40, patches=2)


def build(seed: int = 0, **options) -> VideoDistill:
    torch.manual_seed(seed)
    options = {"selected": 4, "heads": 4, "mlp_ratio": 2} | options
    return VideoDistill(ModelConfig(**options), SIZES, 5).eval()


def rank_correlation(model: VideoDistill, seed: int) -> float:
    """Spearman's rank correlation of the untrained logits and cos(question, frame)."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(8, 64, generator=generator)
    noise = torch.randn(8, 40, 64, generator=generator)
    closeness = torch.linspace(0, 1, 40)[torch.randperm(40, generator=generator)]
    frames = noise + closeness[:, None] * text[:, None]
    with torch.no_grad():
        logits = model.sampler.logits(frames, text, torch.arange(8)).mean(1)
    cosine = torch.cosine_similarity(frames, text[:, None], dim=-1)
    ranks = torch.stack([x.argsort(-1).argsort(-1).float() for x in (logits, cosine)])
    return torch.corrcoef(ranks.flatten(1))[0, 1].item()


@pytest.mark.parametrize("skip", ["frozen", "chained"])
@pytest.mark.parametrize("seed", range(4))
def test_clip_prior_ranks_frames_by_similarity_before_training(seed, skip):
    assert rank_correlation(build(seed, skip=skip), seed) > 0.5


def test_a_random_start_has_no_such_prior():
    correlations = [
        rank_correlation(build(seed, sampler_init="random", skip="chained"), seed)
        for seed in range(6)
    ]
    assert min(correlations) < 0.2


def test_gain_scales_the_first_logits():
    frames, text = torch.randn(1, 40, 64), torch.randn(3, 64)
    spread = [
        build(sampler_gain=gain).sampler.logits(frames, text, torch.zeros(3, dtype=int)).std()
        for gain in (10, 80)
    ]
    assert spread[1] > 3 * spread[0]


def test_identity_gates_and_text():
    model = build(gate_init="identity")
    eye = torch.eye(64)
    gates = [block.gate for block in (*model.sampler.blocks, *model.refinement.blocks)]
    assert all(torch.equal(gate.w_q.weight, eye) for gate in gates)
    assert all(torch.equal(gate.w_k.weight, eye) for gate in gates)
    assert torch.equal(model.text.weight, eye)


def test_random_gates_are_not_the_identity():
    gate = build(gate_init="random").refinement.blocks[0].gate
    assert not torch.equal(gate.w_q.weight, torch.eye(64))


def test_the_same_seed_gives_the_same_start():
    first, second = build(3).state_dict(), build(3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
