"""The contracts of priors, q families and likelihoods, over every yaml of their folders."""

import copy

import pytest
import torch
from budget import BUDGET, CHECKS, assert_mean
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import X, build, names, with_likelihood, with_prior, with_q
from scipy.stats import kstest

pytestmark = pytest.mark.usefixtures("float64")
priors = pytest.mark.parametrize("name", names("prior"))
families = pytest.mark.parametrize("name", names("q"))
likelihoods = pytest.mark.parametrize("name", names("likelihood"))


def _x(n: int = 5) -> torch.Tensor:
    return torch.randint(2, (n, *X)).double()


def _every_parameter_gets_a_gradient(module: torch.nn.Module, value: torch.Tensor) -> None:
    if value.requires_grad:
        value.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@priors
@pytest.mark.parametrize("latent", [1, 3])
def test_prior_shapes(name, latent):
    joint, _, _ = build(*with_prior(name), f"latent_dim={latent}")
    p = joint.prior()
    assert p.batch_shape == ()
    assert p.event_shape == joint.prior.z_shape
    assert p.log_prob(p.sample((4, 5))).shape == (4, 5)


@families
@pytest.mark.parametrize("b", [1, 5])
def test_q_shapes(name, b):
    joint, q, _ = build(*with_q(name))
    d = q(_x(b))
    assert d.batch_shape == (b,)
    assert d.event_shape == joint.prior.z_shape
    assert d.log_prob(d.sample((4,))).shape == (4, b)


@likelihoods
@pytest.mark.parametrize("b", [1, 5])
def test_likelihood_shapes(name, b):
    joint, _, _ = build(*with_likelihood(name))
    z = joint.prior().sample((4, b))
    d = joint.likelihood(z)
    assert d.batch_shape == (4, b)
    assert d.event_shape == X
    assert d.log_prob(_x(b)).shape == (4, b)
    assert d.sample().shape == (4, b, *X)
    assert d.mean.shape == (4, b, *X)


@likelihoods
def test_likelihood_scores_each_pair_as_it_would_alone(name):
    joint, _, _ = build(*with_likelihood(name))
    z, x = joint.prior().sample((4, 5)), _x()
    table = joint.likelihood(z).log_prob(x)
    for k, b in ((0, 0), (3, 1), (2, 4)):
        alone = joint.likelihood(z[k : k + 1, b : b + 1]).log_prob(x[b : b + 1])
        torch.testing.assert_close(alone[0, 0], table[k, b], rtol=1e-12, atol=1e-12)


@priors
def test_prior_gradient_reaches_every_parameter(name):
    joint, _, _ = build(*with_prior(name))
    p = joint.prior()
    value = torch.stack([p.log_prob(p.sample()) * (i + 1) for i in range(4)])
    _every_parameter_gets_a_gradient(joint.prior, value)


@families
def test_q_gradient_reaches_every_parameter(name):
    _, q, _ = build(*with_q(name))
    if any(True for _ in q.parameters()):
        d = q(torch.rand(5, *X))
        _every_parameter_gets_a_gradient(q, d.log_prob(d.sample()) * torch.arange(1.0, 6))


@likelihoods
def test_likelihood_gradient_reaches_every_parameter(name):
    joint, _, _ = build(*with_likelihood(name))
    z = joint.prior().sample((64, 5))
    value = joint.likelihood(z).log_prob(torch.rand(5, *X))
    _every_parameter_gets_a_gradient(joint.likelihood, value * torch.rand_like(value))


@priors
def test_prior_samples_agree_with_its_density(name):
    """Under p itself E[r(z)/p(z)] = 1 for any density r: the mixture of p shifted, scored by p."""
    joint, _, _ = build(*with_prior(name), "latent_dim=1")
    p = joint.prior()
    if p.support.is_discrete:
        z = p.enumerate_support()
        share = p.sample((20_000,))
        assert p.log_prob(z).exp().sum().item() == pytest.approx(1, abs=1e-12)
        assert_mean(share, p.log_prob(z).exp().detach(), detects=0.05)
        return
    grid = torch.linspace(-12, 12, 48_001)
    density = p.log_prob(grid[:, None]).exp().detach()
    cdf = density.cumsum(0) * (grid[1] - grid[0])
    assert cdf[-1].item() == pytest.approx(1, abs=1e-4)
    z = p.sample((4000,))[:, 0]
    values = torch.as_tensor(cdf[torch.bucketize(z, grid).clamp_max(len(grid) - 1)])
    assert kstest(values.numpy(), "uniform").pvalue > BUDGET / CHECKS


@families
def test_q_density_integrates_to_one(name):
    """E_q[r(z)/q(z)] = 1 for a narrow density r inside the support of q."""
    if name in ("categorical",):
        _, q, _ = build(*with_q(name))
        d = q(_x(3))
        assert torch.allclose(d.log_prob(d.enumerate_support()).exp().sum(0), torch.ones(3))
        return
    _, q, _ = build(*with_q(name), "latent_dim=2")
    d = q(_x(1))
    z = d.sample((60_000,))
    centre, spread = z.mean(0), 0.7 * z.std(0)
    r = torch.distributions.Independent(torch.distributions.Normal(centre, spread), 1)
    if name == "uniform":
        r = torch.distributions.Independent(torch.distributions.Uniform(centre - 1, centre + 1), 1)
        inside = ((z > centre - 1) & (z < centre + 1)).all(-1)
        ratio = torch.where(inside, (-d.log_prob(z)).exp() / 4, 0.0)
    else:
        ratio = (r.log_prob(z) - d.log_prob(z)).exp()
    assert_mean(ratio, 1.0, detects=0.2)


@pytest.mark.parametrize("name", ["gaussian", "linear", "factor", "component"])
def test_likelihood_integrates_to_one(name):
    joint, _, _ = build(*with_likelihood(name), x_shape=(1,))
    z = joint.prior().sample((1, 3))
    d = joint.likelihood(z)
    grid = torch.linspace(-40, 40, 400_001)
    mass = torch.stack([joint.likelihood(z[:, b : b + 1]).log_prob(grid[:, None]).exp().sum() for b in range(3)])
    torch.testing.assert_close(mass * (grid[1] - grid[0]), torch.ones(3), rtol=1e-6, atol=0)
    assert d.sample().isfinite().all()


@likelihoods
def test_likelihood_samples_have_its_mean(name):
    joint, _, _ = build(*with_likelihood(name), x_shape=(3,))
    z = joint.prior().sample((1, 1)).expand(20_000, 1, -1)
    d = joint.likelihood(z)
    assert_mean(d.sample()[:, 0], d.mean[0, 0].detach(), detects=0.2)


@pytest.mark.parametrize("overrides", [*map(with_prior, names("prior")), *map(with_q, names("q"))], ids=" ".join)
def test_state_round_trips_and_dtype_moves(overrides):
    joint, q, _ = build(*overrides)
    other, other_q, _ = build(*overrides)
    other.load_state_dict(copy.deepcopy(joint.state_dict()))
    other_q.load_state_dict(copy.deepcopy(q.state_dict()))
    x, z = _x(), joint.prior().sample((2, 5))
    torch.testing.assert_close(other.log_prob(x, z), joint.log_prob(x, z), rtol=0, atol=0)
    torch.testing.assert_close(other_q(x).log_prob(z), q(x).log_prob(z), rtol=0, atol=0)
    joint.float(), q.float()
    assert joint.likelihood(z).log_prob(x.float()).isfinite().all()
    assert joint.prior().log_prob(z).dtype == q(x.float()).log_prob(z).dtype == torch.float64  # z is never rounded


@pytest.mark.parametrize("network", names("network"))
def test_networks_keep_any_batch_axes(network):
    joint, q, _ = build(f"network={network}")
    assert joint.likelihood(torch.randn(2, 3, 3)).batch_shape == (2, 3)
    assert q(torch.rand(2, *X)).batch_shape == (2,)


@given(st.integers(1, 6))
@settings(max_examples=6, deadline=None)
def test_bernoulli_starts_at_the_data_mean(ones):
    joint, _, _ = build()
    x = (torch.arange(8) < ones).double().view(8, 1, 1, 1).expand(8, *X)
    joint.likelihood.initialise(x)
    torch.testing.assert_close(joint.likelihood.offset.sigmoid(), torch.full(X, ones / 8))


def test_gaussian_variance_is_what_it_says():
    joint, _, _ = build("likelihood=gaussian", "likelihood.shared=true", "likelihood.min_variance=0.25", x_shape=(2,))
    x = torch.tensor([[0.0, 10.0], [2.0, 50.0]])  # standard deviations 1 and 20
    joint.likelihood.initialise(x)
    with torch.no_grad():
        joint.likelihood.log_variance.fill_(torch.tensor(2.0).log())
    variance = joint.likelihood(torch.zeros(1, 1, 3)).variance
    torch.testing.assert_close(variance, torch.tensor([[[2.25, 2.25 * 400]]]))
