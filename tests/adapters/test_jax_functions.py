"""Functions of JAX and NumPyro's programs, the packages themselves: .ci/adapters installs them."""

import numpy as np
import pytest
import torch
from adapters.linear import BIAS, NOISE, WEIGHT, assert_agrees, code, data, truth
from scipy.stats import multivariate_normal
from torch.distributions import Independent, Normal

import taut

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from taut.adapters.jax import Jax, NumPyro  # noqa: E402

MATRIX, DEVIATIONS = code()


def encode(x):
    mean = (x - BIAS) @ MATRIX.T
    return mean, jnp.broadcast_to(2 * jnp.log(DEVIATIONS), mean.shape)


def log_joint(x, z):
    from jax.scipy.stats import norm

    return norm.logpdf(z).sum(-1) + norm.logpdf(x, z @ WEIGHT.T + BIAS, NOISE).sum(-1)


class Drawn:
    """sample and log_prob, and nothing else."""

    def sample(self, key, x, k):
        mean, _ = encode(x)
        return mean + DEVIATIONS * jax.random.normal(key, (k, *mean.shape))

    def log_prob(self, x, z):
        from jax.scipy.stats import norm

        return norm.logpdf(z, encode(x)[0], DEVIATIONS).sum(-1)


def simulate(key, n):
    first, second = jax.random.split(key)
    z = jax.random.normal(first, (n, 2))
    return z, z @ WEIGHT.T + BIAS + NOISE * jax.random.normal(second, (n, 4))


@pytest.mark.parametrize("q", [encode, Drawn()], ids=["mean and log-variance", "sample and log_prob"])
def test_a_linear_model_agrees_with_scipy(q):
    """A density of z in single precision, or draws that repeat from one datum to the next."""
    x = data(15)
    report = taut.audit(Jax(log_joint, q, simulate), data=x, k=2000)
    assert_agrees(report, x)
    of_model = report.result["simulated"]["evidence"]
    assert abs(of_model["u_k"]["value"] - of_model["importance"]["value"]) < 0.05
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("q", [encode, Drawn()], ids=["mean and log-variance", "sample and log_prob"])
def test_chains_move_along_gradients_of_jax(q):
    """A gradient of another z, or of the sum over draws that is given to each."""
    x = data(4)
    prior = Independent(Normal(torch.zeros(2), 1.0), 1)
    ais = taut.evidence.AIS(steps=20, chains=8, leapfrog=2)
    report = taut.audit(Jax(log_joint, q, prior=prior), data=x, k=500, evidence=[ais])
    found = report.evidence["ais"]
    assert abs(found["value"] - truth(x).mean()) < 4 * found["monte_carlo_error"] < 0.2
    assert 0.3 < found["diagnostics"]["acceptance"]["mean"] < 1
    subject = Jax(log_joint, q).subject(x)
    z = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 4)
    (subject.target.log_joint(x, z) * weights).sum().backward()
    # by hand: -z and W' (x - W z - b) / s^2
    residual = x.double().numpy() - z.detach().numpy() @ WEIGHT.T - BIAS
    by_hand = -z.detach().numpy() + residual @ WEIGHT / NOISE**2
    np.testing.assert_allclose(z.grad, by_hand * weights.numpy()[..., None], rtol=1e-5, atol=1e-6)


def programs(sites):
    numpyro = pytest.importorskip("numpyro")
    import numpyro.distributions as dist

    def model(x):
        weight = numpyro.param("weight", jnp.zeros((4, 2)))
        with numpyro.plate("data", len(x)), numpyro.handlers.scale(scale=0.3):
            if sites == 1:
                z = numpyro.sample("z", dist.Normal(jnp.zeros(2), 1.0).to_event(1))
            else:
                z = jnp.stack([numpyro.sample(f"z{i}", dist.Normal(0.0, 1.0)) for i in range(2)], -1)
            numpyro.sample("x", dist.Normal(z @ weight.T + BIAS, NOISE).to_event(1), obs=x)

    def guide(x):
        mean, _ = encode(x)
        with numpyro.plate("data", len(x)):
            if sites == 1:
                numpyro.sample("z", dist.Normal(mean, jnp.asarray(DEVIATIONS)).to_event(1))
            else:
                for i in range(2):
                    numpyro.sample(f"z{i}", dist.Normal(mean[:, i], DEVIATIONS[i]))

    return NumPyro(model, guide, {"weight": jnp.asarray(WEIGHT)})


@pytest.mark.parametrize("sites", [1, 2])
def test_numpyros_programs_agree_with_scipy(sites):
    """A scale that is no part of the density, parameters that were not put in, or sites in another order."""
    x = data(15)
    adapter = programs(sites)
    report = taut.audit(adapter, data=x, k=2000)
    assert_agrees(report, x)
    of_model = report.result["simulated"]["evidence"]
    assert abs(of_model["u_k"]["value"] - of_model["importance"]["value"]) < 0.05
    entropy = multivariate_normal(cov=WEIGHT @ WEIGHT.T + NOISE**2 * np.eye(4)).entropy()
    assert abs(of_model["u_k"]["value"] + entropy) < 4 * of_model["u_k"]["standard_error"]
    assert (adapter.subject(x).family is not None) == (sites == 1)
    assert (report.result["information"] is not None) == (sites == 1)


def test_numpyros_guide_of_other_sites_is_refused():
    one, two = programs(1), programs(2)
    with pytest.raises(taut.UserError, match=r"Guide and model must have the same latent sites.*z, z0, z1"):
        taut.audit(NumPyro(one.model, two.guide, one.params), data=data())
