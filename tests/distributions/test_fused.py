"""The fused output layer against torch's own density in float64."""

import copy

import pytest
import torch
from torch.distributions import Bernoulli
from torch.nn.functional import linear

from taut.distributions.bernoulli import fused_log_prob as log_prob

D, F = 70, 9


def case(k, b, dtype=torch.float64, scale=1.0, holes=False):
    """Data, features, weights and offset; some logits are large where ``scale`` is."""
    x = (torch.rand(b, D) < 0.3).to(dtype)
    if holes:
        x[torch.rand(b, D) < 0.4] = torch.nan
    leaves = [torch.randn(k, b, F, dtype=dtype), scale * torch.randn(D, F, dtype=dtype), torch.randn(D, dtype=dtype)]
    return x, [leaf.requires_grad_() for leaf in leaves]


def plain(x, h, weight, offset):
    pixels = Bernoulli(logits=h @ weight.mT + offset).log_prob(x.nan_to_num(0.0))
    return torch.where(x.isnan(), 0.0, pixels).sum(-1)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("shape", [(1, 3), (4, 1), (5, 2)])
def test_value_and_gradient_in_double_precision(shape, holes):
    x, leaves = case(*shape, holes=holes)
    assert torch.allclose(log_prob(x, *leaves), plain(x, *leaves), rtol=1e-13, atol=1e-12)
    assert torch.autograd.gradcheck(lambda *leaves: log_prob(x, *leaves), leaves)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("holes", [False, True])
def test_value_and_gradient_in_single_precision(scale, holes):
    """At a scale of 30 products of probabilities are too small for float32, and whole images are scored one by one."""
    x, leaves = case(20, 10, torch.float32, scale, holes)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    value, truth = log_prob(x, *leaves), plain(x.double(), *exact)
    assert torch.allclose(value.double(), truth, rtol=2e-6, atol=1e-4)
    per_draw = torch.rand(20, 10)
    gradients = torch.autograd.grad((per_draw * value).sum(), leaves)
    for got, want in zip(gradients, torch.autograd.grad((per_draw.double() * truth).sum(), exact), strict=True):
        assert (got - want).norm() <= 2e-5 * want.norm()


def test_features_have_the_same_gradient_where_the_weights_are_constant():
    x, (h, weight, offset) = case(4, 3, holes=True)
    per_draw = torch.rand(4, 3, dtype=torch.float64)
    both = torch.autograd.grad((per_draw * log_prob(x, h, weight, offset)).sum(), [h, weight])[0]
    (alone,) = torch.autograd.grad((per_draw * log_prob(x, h, weight.detach(), offset.detach())).sum(), h)
    torch.testing.assert_close(alone, both, rtol=0, atol=0)


def test_hidden_pixels_change_nothing_and_get_no_gradient():
    x, leaves = case(3, 2, holes=True)
    hidden = x.isnan().all(0)
    x[:, 0] = torch.nan
    hidden = x.isnan().all(0)
    _, by_weight, by_offset = torch.autograd.grad(log_prob(x, *leaves).sum(), leaves)
    assert not by_weight[hidden].any()
    assert not by_offset[hidden].any()


def test_in_half_precision_only_the_products_are_rough():
    x, leaves = case(20, 10, torch.float32)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    with torch.autocast("cpu", torch.bfloat16):
        value = log_prob(x, *leaves)
        logits = linear(leaves[0], *leaves[1:])
    assert value.dtype == torch.float32
    assert torch.allclose(value.double(), Bernoulli(logits=logits.double()).log_prob(x.double()).sum(-1), atol=1e-4)
    truth = plain(x.double(), *exact)
    for got, want in zip(
        torch.autograd.grad(value.sum(), leaves), torch.autograd.grad(truth.sum(), exact), strict=True
    ):
        assert got.dtype == torch.float32
        assert (got - want).norm() < 0.02 * want.norm()


def test_training_takes_the_fused_way(monkeypatch):
    """The likelihood of an MLP hands its features over; torch's own density is not asked."""
    from pieces import config

    from taut.config.instantiate import instantiate
    from taut.distributions import bernoulli

    cfg = config("likelihood=bernoulli", "prior=normal")
    likelihood = instantiate(cfg.likelihood, latent=3)
    z, x = torch.randn(4, 5, 3), torch.ones(5, *likelihood.x_shape)
    want = copy.deepcopy(likelihood)(z).base_dist.log_prob(x).flatten(2).sum(-1)
    monkeypatch.setattr(bernoulli, "TorchBernoulli", None)
    assert torch.allclose(likelihood(z).log_prob(x), want, rtol=1e-5)
