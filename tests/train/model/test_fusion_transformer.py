import torch

from train.model.fusion_transformer import FusionTransformer
from train.model.patch_tokens import PatchTokens

Q, K, N, P, D = 2, 3, 7, 4, 8


def build() -> FusionTransformer:
    torch.manual_seed(0)
    module = FusionTransformer(PatchTokens(D, N, P), D, 2, 3, mlp_ratio=2).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.eval()


def test_is_a_transformer_over_the_tokens_and_the_text():
    module = build()
    patch, t = torch.randn(Q, K, P, D).double(), torch.randn(Q, D).double()
    index = torch.tensor([[0, 3, 6], [5, 5, 1]])
    x = torch.cat([module.tokens(patch, index), t[:, None]], dim=1)
    for block in module.blocks:
        x = block(x, K)
    torch.testing.assert_close(module(patch, t, index), module.norm(x[:, 0]))


def test_the_text_is_seen():
    module = build()
    patch, index = torch.randn(Q, K, P, D).double(), torch.zeros(Q, K, dtype=torch.int64)
    one, other = (module(patch, torch.randn(Q, D).double(), index) for _ in range(2))
    assert not torch.allclose(one, other)
