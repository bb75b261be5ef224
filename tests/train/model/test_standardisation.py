import torch

from train.model.selection import select_patches
from train.model.standardisation import Standardisation


def filled(dim: int) -> Standardisation:
    torch.manual_seed(0)
    module = Standardisation(dim).double()
    for name, buffer in module.named_buffers():
        buffer.copy_(torch.rand(dim) + (0.5 if name.endswith("std") else 0.0))
    return module


def test_starts_as_the_identity():
    module, x = Standardisation(3), torch.randn(2, 3)
    assert all(torch.equal(apply(x), x) for apply in (module.cls, module.patch, module.text))


def test_centres_and_scales_each_dimension():
    module, x = filled(3), torch.randn(5, 3).double()
    torch.testing.assert_close(module.cls(x), (x - module.cls_mean) / module.cls_std)
    torch.testing.assert_close(module.patch(x), (x - module.patch_mean) / module.patch_std)
    torch.testing.assert_close(module.text(x), x - module.text_mean)


def test_without_whitening_the_text_is_one_row():
    t_QD = torch.randn(2, 3)
    assert Standardisation(3).text_rows(torch.randn(2, 3), t_QD) is t_QD
    assert "text_whitening" not in Standardisation(3).state_dict()


def test_a_second_row_is_centred_and_whitened():
    module = Standardisation(3, whiten_text=True).double()
    module.text_mean.copy_(torch.rand(3))
    module.text_whitening.copy_(torch.randn(3, 3))
    t_cls, t_QD = torch.randn(2, 2, 3).double()
    rows = module.text_rows(t_cls, t_QD)
    torch.testing.assert_close(rows[:, 0], t_QD)
    torch.testing.assert_close(rows[:, 1], (t_cls - module.text_mean) @ module.text_whitening)


def test_half_precision_features_come_out_in_the_buffers_precision():
    assert Standardisation(3).cls(torch.ones(3).half()).dtype == torch.float32


def test_after_the_selection_gives_the_sampler_the_gradient_of_before_it():
    module = filled(3)
    patch = torch.randn(1, 5, 2, 3).double()
    logits = torch.randn(1, 2, 5).double().requires_grad_()
    upstream = torch.randn(1, 2, 2, 3).double()
    index, clip = torch.tensor([[0, 3]]), torch.tensor([0])
    gradients = []
    for select in (
        lambda soft: module.patch(select_patches(soft, index, patch, clip)),
        lambda soft: select_patches(soft, index, module.patch(patch), clip),
    ):
        (gradient,) = torch.autograd.grad(select(logits.softmax(-1)), logits, upstream)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[0], gradients[1])
