import pytest
import torch

from train.baselines.atp import ATP, AtemporalProbe, TemporalATP, take_straight_through
from train.config import FeatureSizes, ModelConfig

Q, N, D = 3, 20, 8
SIZES = FeatureSizes(dim=D, frames=N, patches=1)


@pytest.fixture
def asked():
    torch.manual_seed(1)
    return torch.randn(2, N, D), torch.empty(2, N, 0, D), torch.randn(Q, D), torch.tensor([0, 1, 0])


def test_the_probe_is_a_torch_encoder_over_question_and_frames():
    torch.manual_seed(0)
    probe = AtemporalProbe(D).eval()
    v, t = torch.randn(Q, N, D), torch.randn(Q, D)
    width = probe.modality_embedding.shape[1]
    x = torch.cat([probe.project(t)[:, None], probe.project(v)], 1) * width**0.5
    x[:, 0] += probe.modality_embedding[0]
    x[:, 1:] += probe.modality_embedding[1]
    for ours in probe.layers:
        layer = torch.nn.TransformerEncoderLayer(width, 2, width, 0.0, batch_first=True)
        pairs = zip(
            [
                layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias,
                layer.self_attn.out_proj.weight, layer.self_attn.out_proj.bias,
                layer.norm1.weight, layer.norm1.bias,
                layer.linear1.weight, layer.linear1.bias,
                layer.linear2.weight, layer.linear2.bias,
                layer.norm2.weight, layer.norm2.bias,
            ],
            ours.parameters(), strict=True,
        )  # fmt: skip
        with torch.no_grad():
            for theirs, value in pairs:
                theirs.copy_(value)
        x = layer(x)
    y_soft, index = probe(v, t, 0.5, None)
    expected = (probe.score(x[:, 1:])[..., 0] / 0.5).softmax(-1)
    torch.testing.assert_close(y_soft, expected)
    assert torch.equal(index, expected.argmax(-1))


def test_frames_have_no_order(asked):
    torch.manual_seed(0)
    model = ATP(ModelConfig(heads=2), SIZES, 4).eval()
    cls, patch, text, clip = asked
    order = torch.randperm(N)
    before, after = model(*asked), model(cls[:, order], patch, text, clip)
    torch.testing.assert_close(after.logits, before.logits)
    assert torch.equal(order[after.frame_index], before.frame_index)


def test_the_answer_sees_the_chosen_frame_and_the_question(asked):
    torch.manual_seed(0)
    model = ATP(ModelConfig(heads=2), SIZES, 4).eval()
    cls, _, text, clip = asked
    answering = model(*asked)
    chosen = cls[clip, answering.frame_index[:, 0]]
    torch.testing.assert_close(answering.logits, model.classifier(torch.cat([chosen, text], -1)))


def test_straight_through_takes_the_hard_row_and_the_soft_gradient():
    y_soft = torch.rand(Q, N).double().softmax(-1).requires_grad_()
    v, index = torch.randn(Q, N, D).double(), torch.tensor([4, 0, 19])
    taken = take_straight_through(y_soft, index, v)
    torch.testing.assert_close(taken, v[torch.arange(Q), index])
    out = torch.randn(Q, D).double()
    taken.backward(out)
    torch.testing.assert_close(y_soft.grad, (v * out[:, None]).sum(-1))


def test_temporal_atp_picks_one_frame_in_every_section(asked):
    torch.manual_seed(0)
    model = TemporalATP(ModelConfig(heads=2), SIZES, 4).eval()
    answering = model(*asked)
    length = N // 8
    section = answering.frame_index // length
    assert torch.equal(section, torch.arange(8).expand(Q, -1))
    assert torch.equal(answering.y_soft.argmax(-1), answering.frame_index)
    torch.testing.assert_close(answering.y_soft.sum(-1), torch.ones(Q, 8))


def test_temporal_atp_knows_the_order_of_its_picks(asked):
    torch.manual_seed(0)
    model = TemporalATP(ModelConfig(heads=2), SIZES, 4)
    torch.nn.init.normal_(model.order_embedding)
    model.eval()
    cls, patch, text, clip = asked
    backwards = cls[:, :16].flip(1)
    forwards = model(cls[:, :16], patch[:, :16], text, clip).logits
    assert not torch.allclose(model(backwards, patch[:, :16], text, clip).logits, forwards)
