import pytest
import torch

from train.model.joint_attention import JointBlock
from train.model.space_time import build_space_time
from train.model.timesformer_block import TimeSformerBlock

Q, F, P, D, H = 2, 3, 4, 8, 2
LAYERS = ["frozen", "timesformer", "joint"]


def build(layer: str):
    torch.manual_seed(0)
    block = build_space_time(layer, D, H, mlp_ratio=2).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return block.eval()


def tokens():
    torch.manual_seed(1)
    return torch.randn(Q, 1 + F * P, D).double()


@torch.no_grad()
def slow_timesformer(block: TimeSformerBlock, x):
    """The published block token by token: time per place, then space per frame."""
    cls, patch = x[:1], x[1:].reshape(F, P, D).clone()
    for place in range(P):
        track = block.norm_time(patch[:, place])[None]
        patch[:, place] += block.time_fc(block.time(track, None)[0])
    updates, cls_updates = torch.empty(F, P, D).double(), []
    for frame in range(F):
        seen = block.norm_space(torch.cat([cls, patch[frame]]))[None]
        out = block.space(seen, None)[0]
        cls_updates.append(out[0])
        updates[frame] = out[1:]
    u = torch.cat([cls + sum(cls_updates) / F, (patch + updates).reshape(F * P, D)])
    return u + block.mlp(block.norm_mlp(u))


def test_timesformer_equals_the_published_block_token_by_token():
    block, x = build("timesformer"), tokens()
    for q in range(Q):
        torch.testing.assert_close(block(x, F)[q], slow_timesformer(block, x[q]))


def test_joint_equals_torch_encoder_layer():
    torch.manual_seed(0)
    block = JointBlock(D, H, mlp_ratio=2).double().eval()
    layer = torch.nn.TransformerEncoderLayer(
        D, H, 2 * D, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).double()
    pairs = [
        (layer.self_attn.in_proj_weight, block.attention.qkv.weight),
        (layer.self_attn.in_proj_bias, block.attention.qkv.bias),
        (layer.self_attn.out_proj.weight, block.attention.proj.weight),
        (layer.self_attn.out_proj.bias, block.attention.proj.bias),
        (layer.linear1.weight, block.mlp.fc1.weight),
        (layer.linear1.bias, block.mlp.fc1.bias),
        (layer.linear2.weight, block.mlp.fc2.weight),
        (layer.linear2.bias, block.mlp.fc2.bias),
    ]
    with torch.no_grad():
        for theirs, ours in pairs:
            theirs.copy_(ours)
    x = tokens()
    torch.testing.assert_close(block(x, F), layer.train()(x))


@pytest.mark.parametrize("layer", LAYERS)
def test_cls_only_is_the_first_row_of_the_whole(layer):
    block, x = build(layer), tokens()
    torch.testing.assert_close(block(x, F, cls_only=True), block(x, F)[:, :1])


@pytest.mark.parametrize("layer", LAYERS)
def test_maps_tokens_to_tokens_of_the_same_shape(layer):
    assert build(layer)(tokens(), F).shape == (Q, 1 + F * P, D)


def test_the_three_layers_differ():
    outputs = [build(layer)(tokens(), F) for layer in LAYERS]
    assert not any(
        torch.allclose(a, b) for a, b in zip(outputs, outputs[1:] + outputs[:1], strict=True)
    )


@pytest.mark.parametrize("layer", ["timesformer", "joint"])
def test_gradients(layer):
    block = build(layer)
    x = torch.randn(1, 5, D).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: block(rows, 2), (x,))
