"""Gaussian cells that are missing for what they hold, against quadrature and scipy."""

import contextlib

import numpy as np
import pytest
import torch
from budget import assert_mean
from scipy.special import expit
from scipy.stats import multivariate_normal, norm

from taut.completion.complete import complete
from taut.errors import UserError
from taut.evidence.target import Target
from taut.functional.sampling import NoiseKeys
from taut.model.draws import log_weights
from taut.model.joint import Joint
from taut.model.likelihood.self_masking import SelfMasking
from taut.model.networks import MLPDecoder
from taut.model.prior.normal import Normal
from taut.testing import ContractError, check_likelihood

pytestmark = pytest.mark.usefixtures("float64")
NAN = float("nan")
X = torch.tensor([[0.7, NAN], [NAN, 1.4], [NAN, NAN], [-0.2, 2.0]])


def linear(*, missing: str = "high", floor: float = 0.3, slope: float = 2.0) -> Joint:
    """x = W z + noise in two columns, of which only the second is masked to speak of."""
    likelihood = SelfMasking(
        (2,),
        1,
        lambda latent, shape: MLPDecoder(latent, shape, hidden=[], activation="tanh"),
        missing=missing,
        min_variance=floor,
    )
    with torch.no_grad():
        for parameter in likelihood.decoder.parameters():
            parameter.copy_(torch.linspace(-0.8, 1.1, parameter.numel()).view_as(parameter))
        likelihood.offset.copy_(torch.tensor([[0.2, -0.1], [-1.0, -1.5]]))
        likelihood.steepness.fill_(float(np.log(np.expm1(slope))))
        likelihood.level.copy_(torch.tensor([-0.5, 0.3]))
        likelihood.shift.copy_(torch.tensor([0.3, 1.0]))
        likelihood.scale.copy_(torch.tensor([1.5, 0.7]))
    return Joint(Normal(1), likelihood)


def parts(likelihood: SelfMasking, z: torch.Tensor):
    d = likelihood(z)
    slope, level, shift, scale = likelihood.slope, likelihood.level, likelihood.shift, likelihood.scale

    def odds(i: int, x):
        return slope[i].item() * (x - shift[i].item()) / scale[i].item() + level[i].item()

    return d.mean[0, 0].tolist(), d.stddev[0, 0].tolist(), odds


@pytest.mark.parametrize("missing", ["high", "low", "unknown"])
@pytest.mark.parametrize("slope", [0.2, 2.0, 30.0])
@torch.no_grad()
def test_density_and_moments_of_a_missing_cell_are_those_of_quadrature(missing, slope):
    likelihood = linear(missing=missing, slope=slope).likelihood
    z = torch.tensor([[[0.4]]])
    means, stds, odds = parts(likelihood, z)
    given = likelihood(z).given(torch.full((1, 2), NAN))
    for i in range(2):
        # the trapezoidal rule: the integrand and all its derivatives end in zeros
        x = means[i] + stds[i] * np.linspace(-10, 10, 40001)
        weight = norm(means[i], stds[i]).pdf(x) * expit(odds(i, x)) * (x[1] - x[0])
        mass, mean = weight.sum(), (x * weight).sum() / weight.sum()
        alone = torch.full((1, 2), NAN)
        alone[0, 1 - i] = 0.1
        seen = norm(means[1 - i], stds[1 - i]).logpdf(0.1) + np.log(expit(-odds(1 - i, 0.1)))
        # the sum of eight terms is the logistic function to 2.2e-9
        assert likelihood(z).log_prob(alone)[0, 0].item() == pytest.approx(np.log(mass) + seen, abs=2.5e-9 / mass)
        assert given.mean[0, 0, i].item() == pytest.approx(mean, abs=1e-6)
        assert given.stddev[0, 0, i].item() ** 2 == pytest.approx(((x - mean) ** 2 * weight).sum() / mass, abs=1e-5)


@torch.no_grad()
def test_draws_of_a_missing_cell_have_the_moments_of_its_density():
    for slope in (2.0, 30.0):
        likelihood = linear(slope=slope).likelihood
        given = likelihood(torch.full((40000, 1, 1), 0.4)).given(torch.full((1, 2), NAN))
        draws, mean, std = given.sample()[:, 0], given.mean[0, 0], given.stddev[0, 0]
        for i in range(2):
            assert_mean(draws[:, i], mean[i].item(), detects=0.1 * std[i].item())
            assert_mean((draws[:, i] - mean[i]).square(), std[i].item() ** 2, detects=0.15 * std[i].item() ** 2)


@torch.no_grad()
def test_bound_of_the_observed_cells_and_the_mask_tightens_to_quadrature():
    """log p(x_obs, s) of a linear model, by an integral over z of cells scored by scipy."""
    joint = linear()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    z = torch.tensor(nodes).view(-1, 1, 1)
    x = X[:, None].expand(-1, 1, -1)[:, 0]
    table = joint.likelihood(z.expand(-1, len(x), -1)).log_prob(x)
    truth = np.log((weights[:, None] / weights.sum() * table.exp().numpy()).sum(0))
    # a complete row without a mask is a Gaussian's: the only other part is that of its cells being seen
    d = joint.likelihood(torch.zeros(1, 1, 1))
    w = joint.likelihood(torch.ones(1, 1, 1)).mean[0, 0] - d.mean[0, 0]
    # the variances do move with z here, so that the Gaussian is asked for one z alone
    m, s = d.mean[0, 0].numpy(), d.stddev[0, 0].numpy()
    odds = joint.likelihood.slope * (x[3] - joint.likelihood.shift) / joint.likelihood.scale + joint.likelihood.level
    expected = multivariate_normal(m, np.diag(s**2)).logpdf(x[3]) + np.log(expit(-odds.numpy())).sum()
    assert d.log_prob(x[3:])[0, 0].item() == pytest.approx(expected, abs=1e-9)
    assert w.abs().min() > 0.1
    keys = NoiseKeys(torch.arange(len(x)), 0, "test")
    prior = joint.prior()
    log_w = log_weights(joint.log_prob, lambda rows: prior.expand((rows.stop - rows.start,)), x, keys, 20000)
    for i in range(len(x)):
        assert_mean((log_w[:, i] - truth[i]).exp(), 1.0, detects=0.1)


@torch.no_grad()
def test_rows_of_the_model_are_hidden_as_it_scores_them():
    joint = linear()
    _, x = Target.of(joint, lambda x: joint.prior()).simulate(40000)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    z = torch.tensor(nodes).view(-1, 1, 1)
    nothing = (
        torch.tensor(weights / weights.sum()) * joint.likelihood(z).log_prob(torch.full((1, 2), NAN)).exp()[:, 0]
    ).sum()
    assert_mean(x.isnan().all(1).double(), nothing.item(), detects=0.025)


@torch.no_grad()
def test_completion_knows_that_a_missing_cell_was_high():
    """By importance sampling from the prior, whose mean is known by quadrature."""
    joint = linear()
    x = X[:1]
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    d = joint.likelihood(torch.tensor(nodes).view(-1, 1, 1))
    posterior = torch.tensor(weights) * d.log_prob(x).exp()[:, 0]
    truth = (posterior / posterior.sum() * d.given(x).mean[:, 0, 1]).sum().item()
    blind = (posterior / posterior.sum() * d.mean[:, 0, 1]).sum().item()
    keys, prior = NoiseKeys(torch.arange(1), 0, "test"), joint.prior()
    found = complete(joint, lambda rows: prior.expand((1,)), x, keys, k=4000, draws=2)
    assert found.mean[0, 0] == x[0, 0]
    assert found.mean[0, 1].item() == pytest.approx(truth, abs=0.02)
    assert truth > blind + 0.1


def test_it_starts_at_the_shares_that_are_missing_and_needs_some():
    likelihood = linear(missing="unknown").likelihood
    x = torch.tensor([[1.0, NAN], [2.0, NAN], [3.0, 5.0], [4.0, NAN]])
    likelihood.initialise(x)
    torch.testing.assert_close(likelihood.level.sigmoid(), torch.tensor([0.1, 0.7]))
    with pytest.raises(UserError, match=r"of these data none is: add mask=from_data"):
        likelihood.initialise(x.nan_to_num(0.0))


def test_it_starts_in_the_units_of_its_observed_cells_or_in_those_of_the_table():
    """The observed lower half of a standard normal column has mean -0.80 and standard deviation 0.60."""
    column = torch.tensor(norm.ppf((np.arange(1000) + 0.5) / 1000))
    x = torch.stack([column, column], 1)
    x[500:, 0] = NAN
    half = (-((2 / np.pi) ** 0.5), (1 - 2 / np.pi) ** 0.5)
    for units, shift, scale in (("observed", *half), ("given", 0.0, 1.0)):
        likelihood = SelfMasking(
            (2,), 1, lambda latent, shape: MLPDecoder(latent, shape, hidden=[], activation="tanh"), units=units
        )
        likelihood.initialise(x)
        # the midpoints of 1,000 quantiles miss a thousandth of the tails
        assert likelihood.shift.tolist() == pytest.approx([shift, 0.0], abs=2e-3)
        assert likelihood.scale.tolist() == pytest.approx([scale, 1.0], abs=2e-3)


def test_the_contract_sees_a_mask_that_is_not_drawn_as_it_is_scored():
    class Blind(SelfMasking):
        def hidden(self, x):
            return x.masked_fill(torch.rand_like(x) < 0.5, NAN)

    for kind, refusal in ((SelfMasking, contextlib.nullcontext()), (Blind, pytest.raises(ContractError, match="hid"))):
        likelihood = kind((2,), 1, lambda latent, shape: MLPDecoder(latent, shape, hidden=[], activation="tanh"))
        likelihood.load_state_dict(linear().likelihood.state_dict())
        with refusal:
            check_likelihood(likelihood, torch.randn(64, 5, 1))
