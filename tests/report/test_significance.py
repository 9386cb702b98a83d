"""What is called better is better in 95 of 100 sets: over data and over seeds, for equal runs and for unequal ones."""

import math

import numpy as np
import pytest
from budget import BUDGET, CHECKS
from scipy.stats import binom, sem, skew, ttest_ind

from taut.functional.confidence_sequence import BURN_IN, LEVEL
from taut.report.rank.significance import EQUAL, Means, OverData, holm, moments, over_data, over_seeds, skewness

TRIALS = 4_000
FEWER = 1_000
"""Over data, where the level holds for every number of data and so is far from used up at one."""


def _most(trials):
    """Wrong sets that a procedure of this level exceeds with the probability that one check may fail by chance."""
    return int(binom.isf(BUDGET / CHECKS, trials, LEVEL))


def _means(values, tables=True):
    mean, std = moments(values)
    return Means(mean, std / math.sqrt(values.shape[1]), list(values) if tables else [None] * len(values))


def _over(values, tables=True):
    return over_data(_means(values, tables), _means(values, tables), values.shape[1])


def _scored(values):
    """Which ``[i, j]`` are told apart, of runs with a value ``[m, n]`` for every datum."""
    return _told(_over(values))


def _unpaired(values):
    return _told(_over(values, tables=False))


def _told(*found):
    """Which limits of all questions together are above 0."""
    pairs = sum(one.pairs for one in found)
    return np.array([one.limits(LEVEL / pairs) > 0 for one in found])


def _wrong(tell, draw, trials=TRIALS):
    rng = np.random.default_rng(0)
    return sum(bool(tell(draw(rng)).any()) for _ in range(trials))


def _correlated(rng, m, n, own=0.3):
    """Runs that share the difficulty of every datum, and differ by noise of their own."""
    return -24 + rng.normal(0, 3, n) + rng.normal(0, own, (m, n))


@pytest.mark.parametrize(("m", "n"), [(10, 50), (2, 50)])
def test_of_equal_runs_none_is_called_better_in_95_of_100_sets(m, n):
    """At two standard errors for each pair, 60% of sets of ten call one of them behind."""
    assert _wrong(_scored, lambda rng: _correlated(rng, m, n), FEWER) <= _most(FEWER)


def test_runs_without_tables_keep_the_level_too():
    assert _wrong(_unpaired, lambda rng: rng.normal(-24, 1, (10, 50)), FEWER) <= _most(FEWER)


def test_fewer_data_than_the_burn_in_tell_nothing_apart():
    """A hundred standard errors: what 49 data have in common may be that they are few."""
    values = np.random.default_rng(4).normal(0, 0.01, (2, BURN_IN)) + np.array([[1.0], [0.0]])
    assert _scored(values)[0, 0, 1]
    assert not _scored(values[:, 1:]).any()


def test_three_questions_of_one_set_are_one_family():
    """log p(x), the ELBO and their difference, each at a level of its own: wrong in 10% of sets."""

    def tell(pair):
        log_px, elbo = pair
        return _told(*(_over(values) for values in (log_px, elbo, elbo - log_px)))

    assert _wrong(tell, lambda rng: (_correlated(rng, 4, 50), _correlated(rng, 4, 50)), FEWER) <= _most(FEWER)


def test_all_that_is_said_of_unequal_runs_is_true():
    """Half of ten runs are better, and still no pair of equal ones is told apart more often than the level allows."""
    shift = np.where(np.arange(10) < 5, 0.2, 0.0)[:, None]
    false = shift[:, 0][:, None] <= shift[:, 0][None, :]
    wrong = _wrong(lambda values: _scored(values)[0] & false, lambda rng: shift + _correlated(rng, 10, 100), FEWER)
    assert wrong <= _most(FEWER)


def test_a_better_run_is_found():
    """6.8 standard errors of the difference ahead of each of nine equal ones: 4.7 are needed, power 80% for all."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(300):
        values = _correlated(rng, 10, 200)
        values[3] += 6.8 * 0.3 * math.sqrt(2 / 200)
        found += bool(_scored(values)[0, 3, np.arange(10) != 3].all())
    assert found >= 0.8 * 300


@pytest.mark.parametrize(
    ("spreads", "seeds", "trials"),
    [((1, 0.07), 2, 16_000), ((1, 0.1), 3, TRIALS), ((1,) * 6, 3, TRIALS), ((1, 1, 1, 0.05, 0.05, 0.05), 5, TRIALS)],
    ids=str,
)
def test_of_equal_settings_none_is_called_better_over_seeds(spreads, seeds, trials):
    """One spread for all settings, or the fractional freedom of Welch at two seeds (6.6%), is wrong too often."""

    def tell(groups):
        return holm([over_seeds(groups, groups).p_values()])[0]

    wrong = _wrong(tell, lambda rng: [list(rng.normal(-24, one, seeds)) for one in spreads], trials)
    assert wrong <= _most(trials)


def test_a_better_setting_is_found_over_five_seeds():
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(300):
        groups = [list(rng.normal(1.0 if i == 1 else 0.0, 0.1, 5)) for i in range(4)]
        found += bool(holm([over_seeds(groups, groups).p_values()])[0][1, [0, 2, 3]].all())
    assert found >= 0.95 * 300


def test_paired_errors_and_skewness_are_those_of_scipy():
    values = np.exp(_correlated(np.random.default_rng(3), 3, 60) / 10)
    found = _over(values)
    for i in range(3):
        for j in range(3):
            apart = values[i] - values[j]
            assert found.error[i, j] == pytest.approx(sem(apart), rel=1e-9)
            assert found.skewness[i, j] == pytest.approx(skew(apart) if i != j else 0.0, rel=1e-9)
            assert found.mean[i, j] == pytest.approx(apart.mean(), rel=1e-9)


def test_differences_over_seeds_are_those_of_welch():
    groups = [[-24.1, -24.3, -23.9], [-24.6, -24.65, -24.62, -24.9]]
    found = over_seeds(groups, groups)
    expected = ttest_ind(groups[0], groups[1], equal_var=False, alternative="greater")
    assert found.mean[0, 1] / found.error[0, 1] == pytest.approx(expected.statistic, rel=1e-12)
    assert found.freedom[0, 1] == math.floor(expected.df)
    assert found.p_values()[0, 1] >= expected.pvalue


def test_holm_stops_at_the_first_that_fails():
    """By hand: 0.01 <= 0.05 / 4, 0.015 <= 0.05 / 3, 0.03 > 0.05 / 2, and 0.04 <= 0.05 comes too late."""
    nan = math.nan
    found = holm([np.array([[nan, 0.01], [0.03, nan]]), np.array([[nan, 0.04], [0.015, nan]])])
    np.testing.assert_array_equal(found[0], [[False, True], [False, False]])
    np.testing.assert_array_equal(found[1], [[False, False], [True, False]])


def test_every_question_is_paid_for():
    p = np.array([[math.nan, 0.02], [0.98, math.nan]])
    assert holm([p])[0][0, 1]
    assert not holm([p, np.full((2, 2), 0.5)])[0][0, 1]


def test_equal_numbers_have_no_spread():
    """A mean of squares less the square of the mean leaves 1e-9 of rounding, and every difference is then clear."""
    mean, std = moments(np.full((1, 7), -24.1))
    assert (mean[0], std[0]) == (-24.1, 0)
    values = np.stack([np.full(7, 1e8 + 0.1), np.full(7, 1e8 + 0.1)])
    np.testing.assert_array_equal(moments(values)[1], [0, 0])


@pytest.mark.parametrize("apart", [0.0, 0.25])
def test_differences_that_do_not_vary_are_certain_or_nothing(apart):
    values = np.stack([np.arange(64.0) + apart, np.arange(64.0)])
    with np.errstate(all="raise"):
        found = _over(values).limits(LEVEL / 2)
        assert skewness(values - values[:1]).tolist() == [0, 0]
    assert (found[0, 1], found[1, 0]) == (apart, -apart)


def test_what_is_unknown_is_not_compared():
    nan, zeros = math.nan, np.zeros((2, 2))
    found = OverData(np.array([[0, 3.0], [-3.0, 0]]), nan * zeros, zeros.astype(bool), zeros, 100)
    assert found.pairs == 0
    assert np.isnan(found.limits(LEVEL)).all()
    one = Means(np.array([1.0, 0.0]), np.full(2, nan), [None, None])
    assert over_data(one, one, 1).pairs == 0, "one datum has no spread"


def test_differences_over_seeds_that_do_not_vary_are_certain_or_nothing():
    found = over_seeds([[1.0, 1.0], [1.0 - EQUAL / 2] * 2, [0.5, 0.5]], [[1.0, 1.0], [1.0 - EQUAL / 2] * 2, [0.5, 0.5]])
    assert found.p_values()[0, 1:].tolist() == [1.0, 0.0]
