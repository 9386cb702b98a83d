"""Draws made of noise: their densities against scipy's, their gradients against closed forms, their order."""

import numpy as np
import pytest
import scipy.stats
import torch
from budget import BUDGET, CHECKS, assert_mean

from taut.distributions.from_noise import GaussianMixture, StudentT
from taut.distributions.gaussian import Gaussian

pytestmark = pytest.mark.usefixtures("float64")
DF, LOC, SCALE = (torch.tensor([numbers]).double() for numbers in ([3.0, 7.0], [0.5, -1.0], [0.2, 3.0]))


def _two_modes() -> GaussianMixture:
    return GaussianMixture.of(torch.tensor([[[-4.0, 1.0], [4.0, -1.0]]]), torch.tensor([[[0.5, 1.0], [1.0, 2.0]]]))


def test_students_t_is_that_of_scipy():
    """A constant or a scale that is missing; draws that Bailey's formula makes of the wrong half of the noise."""
    t = StudentT.of(DF, LOC, SCALE)
    z = t.sample((4000,))
    known = scipy.stats.t(DF.numpy(), LOC.numpy(), SCALE.numpy())
    np.testing.assert_allclose(t.log_prob(z), known.logpdf(z.numpy()).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(t.mean, known.mean())
    np.testing.assert_allclose(t.variance, known.var())
    for j in range(2):
        one = scipy.stats.t(DF[0, j].item(), LOC[0, j].item(), SCALE[0, j].item())
        assert scipy.stats.kstest(z[:, 0, j].numpy(), one.cdf).pvalue > BUDGET / CHECKS


def test_draws_of_students_t_move_with_its_degrees_of_freedom():
    """E|t_7|, whose derivative by the degrees of freedom is that of a ratio of gamma functions; far out, a Gaussian."""
    df = torch.tensor([[7.0]], requires_grad=True)
    t = StudentT.of(df.expand(200_000, 1), torch.zeros(200_000, 1), torch.ones(200_000, 1))
    (z,) = t.rsample((1,))
    expected = lambda v: 2 * v.sqrt() * ((v + 1) / 2).lgamma().exp() / ((v / 2).lgamma().exp() * np.pi**0.5 * (v - 1))  # noqa: E731
    nu = torch.tensor(7.0, requires_grad=True)
    expected(nu).backward()
    each = torch.autograd.grad(z.abs().sum(), [t.df])[0][:, 0]
    assert_mean(each, nu.grad.item(), detects=0.1 * abs(nu.grad.item()))
    noise = torch.randn(5, 1, 4)
    near = StudentT.of(torch.full((1, 2), 1e9), LOC, SCALE).from_noise(noise)
    torch.testing.assert_close(near, LOC + SCALE * noise[..., :2], rtol=1e-6, atol=1e-6)


def test_one_component_is_a_gaussian_to_the_bit():
    mean, std = torch.randn(3, 2), torch.rand(3, 2) + 0.1
    one, other = Gaussian.of(mean, std), GaussianMixture.of(mean.unsqueeze(1), std.unsqueeze(1))
    for method in ("sample", "rsample"):
        draws = []
        for distribution in (one, other):
            torch.manual_seed(3)
            draws.append(getattr(distribution, method)((4,)))
        assert torch.equal(*draws)
        assert torch.equal(one.log_prob(draws[0]), other.log_prob(draws[0]))


def test_a_mixture_draws_its_components_in_turn_with_a_gradient_and_independently_without():
    """An order that begins anywhere but at random biases every K that is no multiple of S."""
    mixture = _two_modes().expand((6,))
    sides = (mixture.rsample((8,))[..., 0] > 0).double()
    assert torch.equal(sides[0::2], sides[:1].expand(4, -1))
    assert torch.equal(sides[1::2], 1 - sides[:1].expand(4, -1))
    first = (_two_modes().expand((4000,)).rsample((1,))[0, :, 0] > 0).double()
    assert_mean(first, 0.5, detects=0.1)
    pairs = (_two_modes().sample((8000,))[:, 0, 0] > 0).double().view(-1, 2)
    assert_mean((pairs[:, 0] == pairs[:, 1]).double(), 0.5, detects=0.1)


def test_a_mixture_has_the_density_and_the_moments_of_its_components():
    mixture = _two_modes()
    z = mixture.sample((50,))
    each = [
        scipy.stats.norm(mixture.loc[0, s].numpy(), mixture.scale[0, s].numpy()).logpdf(z[:, 0].numpy()).sum(-1)
        for s in range(2)
    ]
    np.testing.assert_allclose(mixture.log_prob(z)[:, 0], np.logaddexp(*each) - np.log(2), rtol=1e-12)
    many = mixture.sample((40_000,))[:, 0]
    assert_mean(many, mixture.mean[0], detects=0.3)
    assert_mean((many - mixture.mean).square(), mixture.variance[0], detects=1.0)
