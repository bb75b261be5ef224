import math

import pytest
import torch

from train.model.sparse_sampling import SparseSampling, gumbel_like

C, N, D = 2, 6, 8


def build(selected: int = 3, draws: str = "independent") -> SparseSampling:
    torch.manual_seed(0)
    return SparseSampling(D, 2, N, selected, 2, mlp_ratio=2, draws=draws).double()


@pytest.fixture
def asked():
    torch.manual_seed(1)
    clip_of_question = torch.tensor([0, 1, 1, 0, 1])
    return torch.randn(C, N, D).double(), torch.randn(5, D).double(), clip_of_question


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_logits_are_the_blocks_and_w_s_on_frames_with_their_time(asked):
    sampler = build()
    v_cls, t, clip_of_question = asked
    torch.nn.init.normal_(sampler.temporal_embedding)
    for question, clip in enumerate(clip_of_question):
        x = (v_cls[clip] + sampler.temporal_embedding)[None]
        for block in sampler.blocks:
            x = block(x, t[question : question + 1])
        rows = sampler.w_s(x[0]).T
        torch.testing.assert_close(sampler.logits(*asked)[question], rows)


def test_training_is_equation_4_and_5(asked):
    sampler = build().train()
    choice = sampler(*asked, tau=0.7, generator=seeded(3))
    logits = sampler.logits(*asked)
    noise = gumbel_like(logits, seeded(3))
    scores = ((logits + noise) / 0.7).exp()
    torch.testing.assert_close(choice.y_soft, scores / scores.sum(-1, keepdim=True))
    assert torch.equal(choice.frame_index, scores.argmax(-1))


def test_evaluation_is_the_argmax_without_noise_and_repeats_itself(asked):
    sampler = build().eval()
    first = sampler(*asked, tau=0.5, generator=None)
    second = sampler(*asked, tau=0.5, generator=seeded(9))
    assert torch.equal(first.frame_index, sampler.logits(*asked).argmax(-1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_noise_comes_from_the_generator(asked):
    sampler = build().train()
    draws = [sampler(*asked, tau=1.0, generator=seeded(seed)).y_soft for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_gumbel_noise_has_the_moments_of_the_gumbel_distribution():
    noise = gumbel_like(torch.empty(200_000, dtype=torch.float64), seeded(0))
    assert noise.isfinite().all()
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.05)


def test_argmax_under_gumbel_noise_samples_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0]).expand(60_000, 3)
    picked = (logits + gumbel_like(logits, seeded(0))).argmax(-1)
    share = picked.bincount() / len(picked)
    torch.testing.assert_close(share, logits[0].softmax(0), atol=0.01, rtol=0)


@pytest.mark.parametrize("draws", ["independent", "without_replacement"])
@pytest.mark.parametrize("selected", [1, 3, N])
def test_edges_of_k(asked, draws, selected):
    sampler = build(selected, draws).train()
    choice = sampler(*asked, tau=0.5, generator=seeded(0))
    assert choice.y_soft.shape == (5, selected, N)
    assert choice.frame_index.shape == (5, selected)
    torch.testing.assert_close(choice.y_soft.sum(-1), torch.ones(5, selected).double())
    choice.y_soft.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in sampler.parameters() if p.grad is not None)


@pytest.mark.parametrize("training", [True, False])
def test_without_replacement_never_picks_a_frame_twice(asked, training):
    sampler = build(N, "without_replacement").train(training)
    choice = sampler(*asked, tau=0.5, generator=seeded(0))
    assert torch.equal(choice.frame_index.sort(-1).values, torch.arange(N).expand(5, N))
    for row in range(1, N):
        earlier = choice.frame_index[:, :row]
        assert (choice.y_soft[:, row].gather(1, earlier) == 0).all()


def test_independent_rows_may_pick_a_frame_twice(asked):
    sampler = build(N)
    torch.nn.init.zeros_(sampler.w_s.weight)
    choice = sampler.eval()(*asked, tau=0.5, generator=None)
    assert (choice.frame_index == choice.frame_index[:, :1]).all()


def test_a_lower_temperature_makes_the_choice_sharper(asked):
    sampler = build().eval()
    soft = [sampler(*asked, tau=tau, generator=None).y_soft.max() for tau in (2.0, 1.0, 0.2)]
    assert soft[0] < soft[1] < soft[2]
