"""Scores of draws against their definitions, closed forms and enumerations; intervals against ranks."""

import itertools
import math

import numpy as np
import pytest
import torch
from budget import assert_mean
from scipy.stats import norm

from taut.functional.proper_scores import ENSEMBLE, covered, crps, energy_score, marginal_draws


def _normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_crps_is_that_of_the_distribution_however_few_the_draws():
    """Of N(0, 1) at y: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi). With m for m - 1, three draws are 0.19 too high."""
    y = 0.7
    expected = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - 1 / math.sqrt(math.pi)
    for m in (2, 3):
        assert_mean(crps(_normal(m, 40_000), torch.full((40_000,), y, dtype=torch.float64)), expected, detects=0.03)


@pytest.mark.parametrize("came", [0.0, 1.0])
def test_the_crps_of_zeros_and_ones_is_the_brier_score(came):
    """Every outcome of three draws of probability 0.3, weighed: (0.3 - y)^2, to rounding."""
    p, total = 0.3, 0.0
    for draws in itertools.product([0.0, 1.0], repeat=3):
        weight = p ** sum(draws) * (1 - p) ** (3 - sum(draws))
        total += weight * crps(torch.tensor(draws, dtype=torch.float64), torch.tensor(came).double()).item()
    assert total == pytest.approx((p - came) ** 2, abs=1e-12)


def test_the_energy_score_is_its_sums():
    draws, truth = _normal(5, 3, 2, 2), _normal(3, 2, 2)
    found = energy_score(draws, truth).numpy()
    for i in range(3):
        x, y = draws[:, i].reshape(5, 4).numpy(), truth[i].reshape(4).numpy()
        pairs = sum(np.linalg.norm(x[j] - x[k]) for j, k in itertools.combinations(range(5), 2))
        assert found[i] == pytest.approx(np.linalg.norm(x - y, axis=1).mean() - pairs / 20, rel=1e-12)
    one, came = _normal(7, 4, 1), _normal(4, 1)
    assert torch.allclose(energy_score(one, came), crps(one, came)[:, 0], atol=1e-12), "of one cell the CRPS"


def test_one_completion_is_a_forecast_that_is_certain_of_it():
    draws, truth = _normal(1, 6, 2), _normal(6, 2)
    assert torch.equal(crps(draws, truth), (draws[0] - truth).abs())
    assert torch.allclose(energy_score(draws, truth), (draws[0] - truth).norm(dim=1))


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_of_a_hundred_ranks_an_interval_holds_its_share(share):
    """The truth between any two of 99 draws, below and above all of them: 50 and 90 of the 100 places, no more."""
    draws = torch.arange(float(ENSEMBLE)).unsqueeze(1).expand(-1, 100)
    held = covered(draws, torch.arange(100.0) - 0.5, share)
    assert held.sum() == round(100 * share)
    assert torch.equal(held, held.flip(0)), "as many are left out below as above"
    assert covered(draws[:, :1], torch.tensor([math.nan]), share).isnan().all()


def test_values_that_repeat_are_counted_by_their_part():
    """Zeros and ones as forecast, 70 of 99 zero: what falls on zero is of ranks 0 to 70, of which 46 are inside."""
    draws = (torch.arange(float(ENSEMBLE)) >= 70).float()
    zero, one = (covered(draws, torch.tensor(value), 0.5).item() for value in (0.0, 1.0))
    assert zero == pytest.approx((70 - 25 + 1) / 71)
    assert one == pytest.approx((74 - 70 + 1) / 30)


def test_draws_that_have_no_such_interval_are_refused():
    with pytest.raises(ValueError, match=r"^10 draws have no interval of 90%; 99 have those of 50% and 90%$"):
        covered(_normal(10, 2), _normal(2), 0.9)


def test_marginal_draws_are_observed_values_of_their_column():
    nan = math.nan
    x = torch.tensor([[[1.0, nan], [5.0, nan]], [[nan, 3.0], [6.0, nan]], [[2.0, 4.0], [7.0, nan]]])
    found = marginal_draws(x, 200, 0)
    assert found.shape == (200, 2, 2)
    values = [set(found[:, i, j].tolist()) for i in range(2) for j in range(2)]
    assert values == [{1.0, 2.0}, {3.0, 4.0}, {5.0, 6.0, 7.0}, {0.0}]
    assert abs((found[:, 0, 0] == 1).double().mean() - 0.5) < 0.2
