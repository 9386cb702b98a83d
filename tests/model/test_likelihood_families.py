"""Likelihoods of independent cells against scipy, enumeration and quadrature, and what they refuse."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from taut.errors import UserError
from taut.model.likelihood.beta import Beta
from taut.model.likelihood.categorical import Categorical
from taut.model.likelihood.continuous_bernoulli import ContinuousBernoulli
from taut.model.likelihood.discretised_logistic import DiscretisedLogistic
from taut.model.likelihood.gaussian import Gaussian
from taut.model.likelihood.laplace import Laplace
from taut.model.likelihood.negative_binomial import NegativeBinomial
from taut.model.likelihood.poisson import Poisson
from taut.model.likelihood.student_t import StudentT

pytestmark = pytest.mark.usefixtures("float64")
Z = torch.zeros(1, 1, 1)


class Nothing(nn.Module):
    """A decoder whose output is 0, so that the heads are the offset of the likelihood."""

    def __init__(self, latent: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z.new_zeros(*z.shape[:-1], *self.shape)


def made(family, heads, rows=None, **options):
    """A likelihood of one row's width whose heads are these numbers, one list for each head, behind some rows."""
    likelihood = family((len(heads[0]),), 1, Nothing, **options)
    if rows is not None:
        likelihood.initialise(torch.tensor(rows))
    with torch.no_grad():
        likelihood.offset.copy_(torch.tensor(heads).view(likelihood.offset.shape))
    return likelihood


def assert_cells(likelihood, x, expected, mean, std):
    """Densities of the cells one by one, and moments, at the same z."""
    d = likelihood(Z)
    cells = d.base_dist.log_prob(torch.tensor(x))[0, 0]
    torch.testing.assert_close(cells, torch.tensor(expected), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(d.log_prob(torch.tensor([x]))[0, 0], cells.sum(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(d.mean[0, 0], torch.tensor(np.array(mean)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(d.stddev[0, 0], torch.tensor(np.array(std)), rtol=1e-9, atol=1e-9)


ROWS = [[0.0, 10.0], [2.0, 50.0]]
"""Means 1 and 30, standard deviations 1 and 20."""
F, G, H = [0.5, -1.0], [0.3, -0.2], [1.0, -2.0]


def test_laplace_cells_are_scipys_in_the_units_of_the_rows():
    family = stats.laplace(np.array([1.5, 10.0]), np.array([1.0, 20.0]) * (0.25 + np.exp(G)))
    likelihood = made(Laplace, [F, G], ROWS, min_scale=0.25)
    assert_cells(likelihood, [1.7, -40.0], family.logpdf([1.7, -40.0]), family.mean(), family.std())


def test_student_t_cells_are_scipys_in_the_units_of_the_rows():
    scale = np.array([1.0, 20.0]) * (0.25 + np.exp(G))
    family = stats.t(3 + np.log1p(np.exp(H)), np.array([1.5, 10.0]), scale)
    likelihood = made(StudentT, [F, G, H], ROWS, min_scale=0.25)
    assert_cells(likelihood, [1.7, -400.0], family.logpdf([1.7, -400.0]), family.mean(), family.std())


def test_gaussian_cells_have_one_sigma_for_each_column():
    likelihood = made(Gaussian, [F], ROWS, shared="columns", min_variance=0.25)
    with torch.no_grad():
        likelihood.log_variance.copy_(torch.tensor(G))
    family = stats.norm([1.5, 10.0], np.array([1.0, 20.0]) * np.sqrt(0.25 + np.exp(G)))
    assert_cells(likelihood, [1.7, -40.0], family.logpdf([1.7, -40.0]), family.mean(), family.std())


def test_caps_and_floors_of_a_scale_say_where_they_bind():
    likelihood = made(Laplace, [[0.0] * 3, [15.0, -9.0, 0.0]], [[0.0, 1.0, 3.0], [1.0, 2.0, 3.0]])
    assert likelihood.limits(Z) == [
        "1 of 3 columns have one value in all training rows, so they have no unit of their own: theirs is 1, and log "
        "p(x) depends on it; leave them out.",
        "the log-scale of 1 of 3 columns is at its cap of 15 (in units of their standard deviation) for some data, "
        "where log p(x) depends on the cap.",
        "the scale of 1 of 3 columns is mostly the floor likelihood.min_scale=0.01 (of their standard deviation), so "
        "log p(x) depends on the floor.",
    ]


COUNTS = [[0.0, 10.0], [2.0, 50.0]]


def test_poisson_counts_are_scipys():
    rates = np.array([1.0, 30.0]) * np.exp(F)
    family = stats.poisson(rates)
    likelihood = made(Poisson, [F], COUNTS)
    assert_cells(likelihood, [3.0, 7.0], family.logpmf([3, 7]), family.mean(), family.std())
    # of large counts the terms of the density are a million times their sum
    huge = made(Poisson, [[0.0]], [[1e12]])
    assert huge.float()(Z.float()).log_prob(torch.tensor([[1e12 + 1e6]])).item() == pytest.approx(
        stats.poisson(1e12).logpmf(1e12 + 1e6), abs=1e-2
    )


def test_negative_binomial_counts_are_scipys():
    mean, r = np.array([1.0, 30.0]) * np.exp(F), np.exp(G)
    family = stats.nbinom(r, r / (r + mean))
    likelihood = made(NegativeBinomial, [F, G], COUNTS)
    assert_cells(likelihood, [3.0, 70.0], family.logpmf([3, 70]), family.mean(), family.std())


def test_negative_binomial_counts_start_with_the_variance_of_the_rows():
    rows = stats.nbinom(2.0, 0.1).rvs(20_000, random_state=0)[:, None]
    likelihood = NegativeBinomial((1,), 1, Nothing)
    likelihood.initialise(torch.tensor(rows, dtype=torch.float64))
    # a moment estimate; its error is that of a variance of 20,000 rows, a few hundredths
    torch.testing.assert_close(likelihood(Z).stddev.item(), float(rows.std()), rtol=1e-6, atol=0)


def test_categories_have_the_softmax_of_their_heads():
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.1], [-0.5, 0.7]])
    likelihood = made(Categorical, logits.tolist(), levels=[3, 2])
    p = torch.stack([logits[:, 0].softmax(0), torch.cat([logits[:2, 1].softmax(0), torch.zeros(1)])])
    for v in range(3):
        torch.testing.assert_close(likelihood(Z).base_dist.log_prob(torch.tensor([v, v]).double())[0, 0], p[:, v].log())
    torch.testing.assert_close(likelihood(Z).mean[0, 0], p @ torch.arange(3.0))


def test_categories_start_at_the_frequencies_of_the_rows():
    likelihood = Categorical((1,), 1, Nothing, levels=3)
    likelihood.initialise(torch.tensor([[0.0], [0.0], [2.0], [torch.nan]]))
    torch.testing.assert_close(likelihood(Z).base_dist.log_p[0, 0, 0].exp(), torch.tensor([2.5, 0.5, 1.5]) / 4.5)


@pytest.mark.parametrize("scale", [1e-3, 0.3, 40.0])
def test_discretised_logistic_masses_are_scipys_and_sum_to_1(scale):
    """Levels 0 ... 8 of two columns, of x = v / 8; the middle of the second component is above them all."""
    mean, weights = np.array([2.3, 11.0]), np.array([0.3, 0.7])
    heads = [np.log(weights), mean, np.log([scale, 1.0])]
    options = {"levels": {"count": 9, "divisor": 8, "offset": 0}, "components": 2}
    likelihood = made(DiscretisedLogistic, np.concatenate(heads)[:, None].tolist(), **options)
    edges = np.array([-np.inf, *np.arange(0.5, 8), np.inf])
    scales = np.array([scale, 1.0]).clip(np.exp(-7.0), np.exp(5.0))
    each = np.diff(stats.logistic(mean[:, None], scales[:, None]).cdf(edges))
    expected, v = weights @ each, np.arange(9)
    x = torch.arange(9.0) / 8
    masses = likelihood(Z).log_prob(x[:, None])[0].exp()
    torch.testing.assert_close(masses, torch.tensor(expected), rtol=1e-9, atol=1e-15)
    torch.testing.assert_close(masses.sum(), torch.tensor(1.0), rtol=1e-12, atol=0)
    std = np.sqrt(expected @ v**2 - (expected @ v) ** 2)
    torch.testing.assert_close(likelihood(Z).mean.item(), expected @ v / 8, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(likelihood(Z).stddev.item(), std / 8, rtol=1e-6, atol=1e-9)


def test_a_discretised_logistic_loses_no_digit_of_a_small_mass():
    """Far from its middle the mass is a difference of two numbers that single precision does not tell apart."""
    likelihood = made(DiscretisedLogistic, [[0.0], [128.0], [0.0]], levels=256, components=1).float()
    expected = stats.logistic(128).logsf(177.5) + np.log(np.expm1(1.0))  # P(177.5 < v < 178.5), in the far tail
    assert likelihood(Z.float()).log_prob(torch.tensor([[178.0]])).item() == pytest.approx(expected - 1.0, rel=1e-6)


def test_beta_cells_are_scipys():
    mean, concentration = 1 / (1 + np.exp(-np.array(F))), np.exp(G)
    family = stats.beta(mean * concentration, (1 - mean) * concentration)
    likelihood = made(Beta, [F, G])
    assert_cells(likelihood, [0.2, 0.97], family.logpdf([0.2, 0.97]), family.mean(), family.std())
    rows = stats.beta(2.0, 5.0).rvs((20_000, 1), random_state=0)
    likelihood = Beta((1,), 1, Nothing)
    likelihood.initialise(torch.tensor(rows))
    torch.testing.assert_close(likelihood(Z).mean.item(), float(rows.mean()), rtol=1e-9, atol=0)
    torch.testing.assert_close(likelihood(Z).stddev.item(), float(rows.std()), rtol=1e-6, atol=0)


@pytest.mark.parametrize("logit", [0.0, 1e-9, 1e-3, 0.599, 0.601, -2.0, 30.0, -500.0])
def test_continuous_bernoulli_cells_are_an_exponential_density_that_is_cut_off(logit):
    """By scipy's truncated exponential, which falls; also where lambda is 1/2, and where the series begin."""
    d = made(ContinuousBernoulli, [[logit]])(Z)
    x = torch.tensor([0.0, 0.1, 0.7, 1.0])
    log_p = d.log_prob(x[:, None])[0]
    if abs(logit) > 0.1:
        family = stats.truncexpon(abs(logit), scale=1 / abs(logit))
        at = x.numpy() if logit < 0 else 1 - x.numpy()
        torch.testing.assert_close(log_p, torch.tensor(family.logpdf(at)), rtol=1e-8, atol=1e-8)
        mean = family.mean() if logit < 0 else 1 - family.mean()
        torch.testing.assert_close([d.mean.item(), d.stddev.item()], [mean, family.std()], rtol=1e-7, atol=1e-9)
    else:  # where scipy divides by nothing: a straight line, to the square of the logit
        torch.testing.assert_close(log_p, logit * (x - 0.5) - logit**2 / 24, rtol=0, atol=1e-12)
        torch.testing.assert_close(d.mean.item(), 0.5 + logit / 12, rtol=0, atol=1e-10)
    assert integrate.quad(lambda u: d.log_prob(torch.tensor([[u]])).exp().item(), 0, 1)[0] == pytest.approx(1, abs=1e-7)


def test_continuous_bernoulli_cells_start_at_the_means_of_the_rows():
    likelihood = ContinuousBernoulli((3,), 1, Nothing)
    likelihood.initialise(torch.tensor([[0.0, 0.5, 0.9], [0.2, 0.5, torch.nan]]))
    torch.testing.assert_close(likelihood(Z).mean[0, 0], torch.tensor([0.1, 0.5, 0.9]), rtol=1e-6, atol=1e-6)


REFUSED = [
    (ContinuousBernoulli, {}, 1.5, "likelihood=continuous_bernoulli needs numbers from 0 to 1, but the data hold 1.5; "
     "choose likelihood=gaussian for other numbers."),
    (Poisson, {}, 0.5, "likelihood=poisson needs counts, whole numbers of 0 or more, but the data hold 0.5; choose "
     "likelihood=gaussian for real numbers, discretised_logistic for grey levels."),
    (NegativeBinomial, {}, -1.0, "likelihood=negative_binomial needs counts, whole numbers of 0 or more, but the data "
     "hold -1; choose likelihood=gaussian for real numbers, discretised_logistic for grey levels."),
    (Categorical, {"levels": 3}, 3.0, "likelihood=categorical needs levels from 0 to 2, but the data hold 3; set "
     "likelihood.levels to the number of levels (one for each column where they differ), or choose likelihood=gaussian "
     "for real numbers, poisson for counts."),
    (DiscretisedLogistic, {"levels": {"count": 5, "divisor": 4, "offset": 0}}, 0.3,
     "likelihood=discretised_logistic needs levels from 0 to 1 in steps of 1/4, but the data hold 0.3; set "
     "likelihood.levels to the number of levels (one for each column where they differ), or choose likelihood=gaussian "
     "for real numbers, poisson for counts."),
]  # fmt: skip


@pytest.mark.parametrize(("family", "options", "value", "sentence"), REFUSED)
def test_what_is_outside_of_the_support_is_refused(family, options, value, sentence):
    likelihood = family((2,), 1, Nothing, **options)
    likelihood.check(torch.tensor([[0.0, torch.nan], [1.0, 0.0]]))
    with pytest.raises(UserError) as refusal:
        likelihood.check(torch.tensor([[0.0, torch.nan], [1.0, value]]))
    assert str(refusal.value) == sentence


LEVELS = [
    (None, "likelihood=categorical needs the number of levels, which only images tell: for cells that hold 0, 1, ..., "
     "L - 1 set likelihood.levels=<L>, or [<L1>,<L2>,...] for columns that differ in it."),
    (1, "likelihood.levels must be a number of levels >= 2, or a list of such, got 1."),
    ([3, 4, 5], "likelihood.levels=[3, 4, 5] names 3 columns, and the data have 2; give a number for each, or one for "
     "all."),
]  # fmt: skip


@pytest.mark.parametrize(("levels", "sentence"), LEVELS)
def test_levels_that_cannot_be_are_refused(levels, sentence):
    with pytest.raises(UserError) as refusal:
        Categorical((2,), 1, Nothing, levels=levels)
    assert str(refusal.value) == sentence


def test_beta_cells_have_no_density_at_0_and_1():
    likelihood = Beta((1,), 1, Nothing)
    assert likelihood(Z).log_prob(torch.tensor([[0.0], [1.0], [1.5]])).tolist() == [[-np.inf] * 3]
    with pytest.raises(UserError) as refusal:
        likelihood.check(torch.tensor([[0.25], [torch.nan], [1.0]]))
    assert str(refusal.value) == (
        "likelihood=beta needs numbers between 0 and 1, both excluded, but the data hold 1; for pixels add "
        "data.dequantise=uniform, choose likelihood=continuous_bernoulli where 0 and 1 occur, gaussian for other "
        "numbers."
    )
