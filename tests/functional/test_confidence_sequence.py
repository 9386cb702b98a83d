"""Limits that hold at every number of data: how often they are wrong, and how soon they tell apart what differs."""

import math

import numpy as np
import pytest
from budget import BUDGET, CHECKS
from scipy.integrate import quad
from scipy.stats import binom, norm

from taut.functional.confidence_sequence import BURN_IN, LEVEL, TARGET, distance, lower_limit, margin, needed

TRIALS = 1_000
LOOKS = np.unique(np.geomspace(BURN_IN, 1_500, 60).astype(int))


def _limits(values, level):
    """Limits of the first n of each row at every look, ``[looks, trials]``."""
    first, second, third = ((values**power).cumsum(1)[:, LOOKS - 1] / LOOKS for power in (1, 2, 3))
    variance = second - first**2
    skewed = (third - 3 * first * second + 2 * first**3) / variance**1.5
    std = np.sqrt(variance * LOOKS / (LOOKS - 1))
    return np.array([lower_limit(first[:, i], std[:, i], skewed[:, i], int(n), level) for i, n in enumerate(LOOKS)])


def _wrong(values, level):
    return int((_limits(values, level) > 0).any(0).sum())


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape: rng.normal(size=shape),
        lambda rng, shape: 1 - rng.normal(size=shape) ** 2,
        lambda rng, shape: rng.normal(size=shape) ** 2 - 1,
        lambda rng, shape: math.exp(0.5) - np.exp(rng.normal(size=shape)),
        lambda rng, shape: rng.standard_t(3, shape),
    ],
    ids=["normal", "skewed down", "skewed up", "skewed much", "heavy tails"],
)
def test_whoever_looks_sixty_times_is_wrong_in_5_of_100_trials_at_most(draw):
    """Without Johnson's correction 8% of the trials of two sides are wrong that are skewed much; at each n, a t test
    of 5% is wrong in 30% and more.
    """
    values = draw(np.random.default_rng(0), (TRIALS, int(LOOKS[-1])))
    allowed = binom.isf(BUDGET / CHECKS, TRIALS, LEVEL / 2)
    assert _wrong(values, LEVEL / 2) <= min(allowed, LEVEL * TRIALS)


def test_at_twice_the_effect_half_the_data_are_enough():
    """A t test of 1,000 data finds the effect it was sized for in 80% of trials; so do 500 here at twice that."""
    effect = 2 * (norm.isf(0.025) + norm.isf(0.2)) / math.sqrt(TARGET)
    values = np.random.default_rng(1).normal(effect, 1, (TRIALS, TARGET // 2))
    limits = lower_limit(values.mean(1), values.std(1, ddof=1), np.zeros(TRIALS), TARGET // 2, LEVEL / 2)
    assert (limits > 0).sum() >= 0.75 * TRIALS
    assert margin(TARGET // 2, LEVEL / 2) < 0.8 * effect


@pytest.mark.parametrize("n", [BURN_IN, 400, 30_000])
def test_the_margin_is_that_of_the_mixture(n):
    """The half-normal mixture by quadrature is 1 / level at the margin, or little more: Phi is bounded closely."""
    logarithm = -2 * math.log(LEVEL)
    scale = math.sqrt((logarithm + math.log(logarithm) + 1) / TARGET)
    total = n * margin(n, 0.025)

    def weight(slope):
        return 2 * norm.pdf(slope, scale=scale) * math.exp(slope * total - n * slope**2 / 2 - 4)

    peak = total / (n + scale**-2)
    width = 1 / math.sqrt(n + scale**-2)
    mixture = quad(weight, max(0, peak - 12 * width), peak + 12 * width, epsabs=0)[0] * math.exp(4)
    assert 1 / 0.025 <= mixture < 1.02 / 0.025


def test_of_skewed_data_the_corrected_mean_lies_on_the_boundary():
    """Johnson (1978), equation 2.5, put in where the limit says the mean lies; a tail to the right gives nothing."""
    n, tail = 200, 1.5
    u = float(distance(n, np.array(-tail)))
    assert u - tail / (6 * n) - tail * u**2 / 3 == pytest.approx(margin(n), rel=1e-12)
    assert float(distance(n, np.array(tail))) == margin(n)
    assert math.isinf(distance(n, np.array(-6.0))), "the correction has no solution"


def test_fewer_than_fifty_have_no_limit_and_equal_ones_have_their_mean():
    one = np.array([1.0])
    assert lower_limit(one, one, 0 * one, BURN_IN - 1)[0] == -np.inf
    assert lower_limit(one, 0 * one, 0 * one, BURN_IN - 1)[0] == -np.inf
    with np.errstate(all="raise"):
        assert lower_limit(one, 0 * one, 0 * one, BURN_IN)[0] == 1


def test_the_data_that_are_needed_are_the_fewest():
    n = needed(0.1, 1.0, -0.5)
    far = [float(distance(m, np.array(-0.5))) for m in (n - 1, n)]
    assert far[1] < 0.1 <= far[0]
    assert needed(10.0, 1.0, 0.0) == BURN_IN
    assert needed(1e-6, 1.0, 0.0) is None
