"""Pyro models and guides, the package itself: it is not among what the tests need, and .ci/adapters installs it."""

import numpy as np
import pytest
import torch
from adapters.linear import NOISE, Encoder, assert_agrees, data, decoder
from scipy import stats

import taut

pyro = pytest.importorskip("pyro")

import pyro.distributions as dist  # noqa: E402
from pyro import poutine  # noqa: E402

from taut.adapters.pyro import Pyro  # noqa: E402

ENCODER, DECODER = Encoder(), decoder()


def model(x):
    pyro.module("decoder", DECODER)
    with pyro.plate("data", len(x)), poutine.scale(scale=0.3):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(DECODER(z.float()), NOISE).to_event(1), obs=x)


def guide(x):
    pyro.module("encoder", ENCODER)
    mean, log_variance = ENCODER(x)
    with pyro.plate("data", len(x)):
        pyro.sample("z", dist.Normal(mean, (log_variance / 2).exp()).to_event(1))


def two_sites(x):
    """The same model with a site for each coordinate, and a plate over the columns of x."""
    rows = pyro.plate("data", len(x), dim=-1)
    with rows:
        z = torch.stack([pyro.sample(f"z{i}", dist.Normal(torch.zeros(()), 1.0)) for i in range(2)], -1)
    mean = DECODER(z.float())
    with pyro.plate("cells", 4, dim=-2), rows:
        pyro.sample("x", dist.Normal(mean.T, NOISE), obs=x.T)


def guide_of_two(x):
    mean, log_variance = ENCODER(x)
    with pyro.plate("data", len(x), dim=-1):
        for i in range(2):
            pyro.sample(f"z{i}", dist.Normal(mean[:, i], (log_variance[:, i] / 2).exp()))


@pytest.mark.parametrize("programs", [(model, guide), (two_sites, guide_of_two)], ids=["one site", "two sites"])
def test_a_linear_model_agrees_with_scipy(programs):
    """A scale that is no part of the density, the axis of another plate, or sites in another order."""
    x = data()
    report = taut.audit(Pyro(*programs), data=x, k=2000, evidence=["importance", "struski"])
    assert_agrees(report, x)
    assert report.result["name"] == f"audit of {programs[0].__name__}"


def test_one_gaussian_site_has_a_prior_a_family_and_simulated_data():
    x = data()
    report = taut.audit(Pyro(model, guide), data=x, k=500, simulated=200)
    of_model = report.result["simulated"]["evidence"]
    weight = DECODER.weight.detach().double().numpy()
    entropy = stats.multivariate_normal(cov=weight @ weight.T + NOISE**2 * np.eye(4)).entropy()
    assert abs(of_model["u_k"]["value"] + entropy) < 4 * of_model["u_k"]["standard_error"]
    assert report.result["information"]["kl_by_dimension"] is not None
    assert Pyro(model, guide).subject(x).family is not None


def test_chains_move_a_site_with_bounds():
    """z on the positive axis, whose coordinates without bounds are those of its logarithm: x = z + noise."""

    def positive(x):
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Exponential(torch.ones(1)).to_event(1))
            pyro.sample("x", dist.Normal(z, 0.5).to_event(1), obs=x)

    def positive_guide(x):
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.LogNormal(torch.zeros(len(x), 1), 0.8).to_event(1))

    x = torch.tensor([[0.5], [1.5]])
    exact = stats.exponnorm.logpdf(x[:, 0].numpy(), K=1 / 0.5, scale=0.5).mean()
    ais = taut.evidence.AIS(steps=60, chains=32, leapfrog=3)
    report = taut.audit(Pyro(positive, positive_guide), data=x, k=4000, evidence=["importance", ais])
    for name in ("importance", "ais"):
        found = report.evidence[name]
        assert abs(found["value"] - exact) < 4 * found["monte_carlo_error"] + 1e-3 < 0.2, name


def test_what_has_no_z_of_each_datum_is_refused():
    def without(x):
        z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(DECODER(z), NOISE).to_event(1), obs=x)

    def other(x):
        with pyro.plate("data", len(x)):
            pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(taut.UserError, match="The guide has no plate over the data"):
        taut.audit(Pyro(without, lambda x: pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))), data=data())
    with pytest.raises(taut.UserError, match=r"Guide and model must have the same latent sites.*w, z"):
        taut.audit(Pyro(model, other), data=data())
