"""The fused Gaussian density against torch's own in float64."""

import pytest
import torch
from torch.distributions import Normal

from taut.distributions.diagonal_gaussian import Heads, log_prob

D, FLOOR = 11, 0.01


def case(dtype=torch.float64, holes=False):
    """Data, means and log-variances, two of them beyond where the variance stays."""
    r = torch.randn(3, D, dtype=dtype)
    if holes:
        r[torch.rand(3, D) < 0.4] = torch.nan
    f, g = torch.randn(4, 3, D, dtype=dtype), torch.randn(4, 3, D, dtype=dtype)
    g[0, 0, :2] = torch.tensor([16.0, 40.0])
    return r, f.requires_grad_(), g.requires_grad_()


def plain(r, f, g, shift=0.0, scale=1.0):
    std = (FLOOR + g.clamp(max=15).exp()).sqrt()
    cells = Normal(shift + scale * f, scale * std).log_prob(r.nan_to_num(0.0))
    return torch.where(r.isnan(), 0.0, cells).sum(-1)


@pytest.mark.parametrize("holes", [False, True])
def test_value_and_gradient_in_double_precision(holes):
    r, f, g = case(holes=holes)
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64)) * (~r.isnan()).sum(-1)
    value, truth = log_prob(r, f, g, FLOOR), plain(r, f, g) + constant
    assert torch.allclose(value, truth, rtol=1e-13, atol=1e-12)
    weights = torch.randn(4, 3, dtype=torch.float64)
    for got, want in zip(
        torch.autograd.grad((weights * value).sum(), (f, g)),
        torch.autograd.grad((weights * truth).sum(), (f, g)),
        strict=True,
    ):
        assert torch.allclose(got, want, rtol=1e-11, atol=1e-12)
    inside = g.detach().clamp(max=14).requires_grad_()  # finite differences cannot see the corner
    assert torch.autograd.gradcheck(lambda f, g: log_prob(r, f, g, FLOOR), (f, inside))


@pytest.mark.parametrize("holes", [False, True])
def test_value_and_gradient_in_single_precision(holes):
    r, f, g = case(torch.float32, holes)
    exact = [leaf.detach().double().requires_grad_() for leaf in (f, g)]
    value = Heads(f, g, torch.ones(D), torch.full((D,), 3.0), FLOOR).log_prob(1 + 3 * r)
    truth = plain(1 + 3 * r.double(), *exact, shift=1.0, scale=3.0)
    assert torch.allclose(value.double(), truth, rtol=2e-6, atol=1e-4)
    gradients = torch.autograd.grad(value.sum(), (f, g))
    for got, want in zip(gradients, torch.autograd.grad(truth.sum(), exact), strict=True):
        assert (got - want).norm() <= 2e-5 * want.norm()


def test_it_is_one_distribution():
    r, f, g = case()
    heads = Heads(f, g, torch.zeros(D).double(), torch.ones(D).double(), FLOOR)
    assert heads.batch_shape == (4, 3)
    assert heads.event_shape == (D,)
    assert torch.allclose(heads.log_prob(r), heads.base_dist.log_prob(r).sum(-1))
    assert torch.equal(heads.mean, f)


def test_means_have_a_gradient_where_the_variance_is_frozen():
    """One variance for all, held fixed while z moves: annealing a trained model."""
    r, f, g = case()
    (frozen,) = torch.autograd.grad(log_prob(r, f, g.detach(), FLOOR).sum(), f)
    free, _ = torch.autograd.grad(log_prob(r, f, g, FLOOR).sum(), (f, g))
    assert torch.equal(frozen, free)
