import pytest
import torch

from train.model.patch_tokens import PatchTokens
from train.model.refinement import VisionRefinement, VisionRefinementBlock

Q, K, N, P, D = 2, 3, 7, 4, 8


def build(*, temporal=True, spatial=True, **options) -> VisionRefinement:
    torch.manual_seed(0)
    tokens = PatchTokens(D, N, P, temporal=temporal, spatial=spatial)
    module = VisionRefinement(tokens, D, 2, 2, mlp_ratio=2, **options).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.eval()


@pytest.fixture
def seen():
    torch.manual_seed(1)
    return (
        torch.randn(Q, K, P, D).double(),
        torch.randn(Q, D).double(),
        torch.tensor([[0, 3, 6], [5, 5, 1]]),
    )


def test_equals_gate_and_divided_block_token_by_token(seen):
    module = build()
    patch, t, index = seen
    for q in range(Q):
        tokens = [module.tokens.v_star_embedding]
        for k in range(K):
            tokens += [
                patch[q, k, p]
                + module.tokens.temporal_embedding[index[q, k]]
                + module.tokens.spatial_embedding[p]
                for p in range(P)
            ]
        x = torch.stack(tokens)[None]
        for block in module.blocks:
            x = block.space_time(block.gate(x, t[q : q + 1]), K)
        torch.testing.assert_close(module(patch, t, index)[q], module.norm(x[0, 0]))


def test_without_temporal_embedding_the_index_does_not_matter(seen):
    patch, t, index = seen
    without = build(temporal=False)
    assert torch.equal(without(patch, t, index), without(patch, t, index * 0))
    with_time = build()
    assert not torch.equal(with_time(patch, t, index), with_time(patch, t, index * 0))


def test_without_spatial_embedding_the_place_of_a_patch_does_not_matter(seen):
    patch, t, index = seen
    without = build(spatial=False)
    torch.testing.assert_close(without(patch, t, index), without(patch.flip(2), t, index))
    with_space = build()
    assert not torch.allclose(with_space(patch, t, index), with_space(patch.flip(2), t, index))


def test_final_norm_is_optional():
    assert isinstance(build(final_norm=False).norm, torch.nn.Identity)


def test_options_that_are_off_leave_no_parameters():
    names = {name for name, _ in build(temporal=False, spatial=False).named_parameters()}
    assert not {"tokens.temporal_embedding", "tokens.spatial_embedding"} & names


def test_gradients_of_a_block():
    torch.manual_seed(0)
    block = VisionRefinementBlock(4, 2, mlp_ratio=1).double()
    x = torch.randn(1, 5, 4).double().requires_grad_()
    t = torch.randn(1, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows, text: block(rows, text, 2), (x, t))
