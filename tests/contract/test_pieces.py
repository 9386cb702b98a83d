"""The contracts of priors, q families and likelihoods, over every yaml of their folders, and of networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pieces import X, build, config, names, with_likelihood, with_prior, with_q

from taut.config.instantiate import instantiate
from taut.testing import check_likelihood, check_network, check_prior, check_q

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("name", names("prior"))
@pytest.mark.parametrize("latent", [1, 3])
def test_a_prior_keeps_its_contract(name, latent):
    check_prior(build(*with_prior(name), f"latent_dim={latent}")[0].prior)


@pytest.mark.parametrize("name", names("q"))
@pytest.mark.parametrize("latent", [1, 2])
def test_a_q_keeps_its_contract(name, latent):
    check_q(build(*with_q(name), f"latent_dim={latent}")[1])


@pytest.mark.parametrize("name", names("likelihood"))
@pytest.mark.parametrize("x_shape", [X, (1,), (3,)], ids=str)
def test_a_likelihood_keeps_its_contract(name, x_shape):
    if name == "mixed" and len(x_shape) == 3:
        pytest.skip("for the columns of a table")
    # one column has no correlations, whose parameters would get no gradient
    words = ["likelihood.covariance=diagonal"] if name == "component" and x_shape == (1,) else []
    joint, _, _ = build(*with_likelihood(name), *words, x_shape=x_shape)
    check_likelihood(joint.likelihood, joint.prior().sample((64, 5)))


@pytest.mark.parametrize("name", names("network"))
def test_a_network_keeps_its_contract(name):
    network = config(f"network={name}").network
    check_network(instantiate(network.encoder), X, 3)
    check_network(instantiate(network.decoder), 3, (2, 5, 4))


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
