"""Exact values against scipy and sums written out by hand, to 1e-9."""

import pytest
import torch
from evidence.models import bernoulli_mixture, boxed, curved, gaussian_mixture, linear_gaussian
from pieces import build
from scipy import stats
from torch.distributions import Exponential, Independent, Normal

from taut.errors import UserError
from taut.evidence import Exact, Target

pytestmark = pytest.mark.usefixtures("float64")

CASES = {
    "gaussian, 1 dimension": lambda: linear_gaussian(1, 4, 5),
    "gaussian, 2 dimensions": lambda: linear_gaussian(2, 4, 5),
    "gaussian, sharp": lambda: linear_gaussian(2, 4, 3, noise=0.01),
    "mixture of Gaussians": lambda: gaussian_mixture(7),
    "mixture of Bernoullis": bernoulli_mixture,
    "two modes": curved,
    "two modes narrower than the grid": lambda: curved(1e-3, shift=0.0137),
    "a box": boxed,
}


@pytest.mark.parametrize("name", CASES)
def test_exact_is_exact(name):
    target, x, _, truth = CASES[name]()
    found = Exact()(target, x)
    assert found.kind == "exact"
    torch.testing.assert_close(found.value, truth, rtol=1e-11, atol=1e-9)
    assert found.variance.max() == 0


def test_all_images_of_a_mixture_share_one_probability():
    target, x, _, _ = bernoulli_mixture()
    assert Exact()(target, x).value.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_a_model_with_a_closed_form_uses_it():
    joint, q, _ = build("model=ppca", "q=diagonal", x_shape=(6,))
    x = torch.randn(4, 6)
    weight, variance = joint.likelihood.weight.detach(), joint.likelihood.variance.item()
    covariance = (weight @ weight.T + variance * torch.eye(6)).numpy()
    truth = stats.multivariate_normal(joint.likelihood.mean.detach().numpy(), covariance).logpdf(x.numpy())
    torch.testing.assert_close(Exact()(Target.of(joint, q), x).value, torch.as_tensor(truth), rtol=0, atol=1e-9)


def test_a_mixture_prior_under_a_line_is_a_mixture():
    joint, q, _ = build("model=ppca", "q=diagonal", "prior=mixture", "prior.components=3", "latent_dim=1", x_shape=(2,))
    x = torch.randn(4, 2)
    closed = Target.of(joint, q)
    summed = Target(closed.log_joint, closed.q, closed.prior)  # forgets its closed form, and integrates
    torch.testing.assert_close(Exact()(summed, x).value, Exact()(closed, x).value, rtol=0, atol=1e-9)


def test_a_posterior_far_from_prior_and_q_is_found():
    """Ten deviations are not enough for x = 40 under a sharp likelihood; a one-sided support has one end."""
    prior = Independent(Normal(torch.zeros(1), 1.0), 1)
    far = Target(
        lambda x, z: prior.log_prob(z) + Normal(z, 0.1).log_prob(x).sum(-1),
        lambda x: Independent(Normal(torch.zeros(len(x), 1), 1.0), 1),
        prior,
    )
    x = torch.tensor([[40.0], [-300.0], [0.1]])
    truth = torch.as_tensor(stats.norm(0, 1.01**0.5).logpdf(x[:, 0].numpy()))
    torch.testing.assert_close(Exact()(far, x).value, truth, rtol=1e-12, atol=1e-9)
    half = Independent(Exponential(torch.ones(1)), 1)
    one_sided = Target(
        lambda x, z: half.log_prob(z) + Normal(z, 1.0).log_prob(x).sum(-1),
        lambda x: Independent(Exponential(torch.ones(len(x), 1)), 1),
        half,
    )
    truth = stats.exponnorm(1.0).logpdf(0.7)
    assert Exact()(one_sided, torch.tensor([[0.7]])).value.item() == pytest.approx(truth, abs=1e-9)


def test_what_does_not_fit_is_refused_with_what_would():
    target, x, _, _ = linear_gaussian(3, 4, 2)
    with pytest.raises(UserError, match=r"3-dimensional z .*evidence=importance or ais"):
        Exact()(target, x)


def test_a_quadrature_that_does_not_settle_is_no_value():
    prior = Independent(Normal(torch.zeros(1), 1.0), 1)
    jumps = Target(
        lambda x, z: prior.log_prob(z) + (1e4 * z[..., 0] + 1).sin().sign(),
        lambda x: Independent(Normal(torch.zeros(len(x), 1), 1.0), 1),
        prior,
    )
    with pytest.raises(UserError, match="row 0 does not settle"):
        Exact()(jumps, torch.zeros(1, 1))
