import torch

from train.model.answer_head import AnswerHead


def test_is_a_two_layer_perceptron():
    torch.manual_seed(0)
    head = AnswerHead(4, 3).double()
    v = torch.randn(2, 4).double()
    hidden = torch.nn.functional.gelu(v @ head.hidden.weight.T + head.hidden.bias)
    torch.testing.assert_close(head(v), hidden @ head.answer.weight.T + head.answer.bias)


def test_dropout_is_off_in_evaluation():
    head = AnswerHead(4, 3, dropout=0.5).eval()
    v = torch.randn(2, 4)
    assert torch.equal(head(v), head(v))
