"""What is called better is better in 95 of 100 sets: over data and over seeds, for equal runs and for unequal ones."""

import math

import numpy as np
import pytest
from budget import BUDGET, CHECKS
from scipy.stats import binom, ttest_1samp, ttest_ind

from taut.report.rank.significance import EQUAL, LEVEL, Differences, Means, holm, moments, over_data, over_seeds

TRIALS = 4_000


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
    return holm([_over(values).p_values()])[0]


def _unpaired(values):
    return holm([_over(values, tables=False).p_values()])[0]


def _wrong(tell, draw, trials=TRIALS):
    rng = np.random.default_rng(0)
    return sum(bool(tell(draw(rng)).any()) for _ in range(trials))


def _correlated(rng, m, n, own=0.3):
    """Runs that share the difficulty of every datum, and differ by noise of their own."""
    return -24 + rng.normal(0, 3, n) + rng.normal(0, own, (m, n))


@pytest.mark.parametrize(("m", "n"), [(10, 20), (10, 10), (2, 5)])
def test_of_equal_runs_none_is_called_better_in_95_of_100_sets(m, n):
    """At two standard errors for each pair, 60% of sets of ten call one of them behind; normal quantiles fail at 10."""
    assert _wrong(_scored, lambda rng: _correlated(rng, m, n)) <= _most(TRIALS)


def test_runs_without_tables_keep_the_level_too():
    assert _wrong(_unpaired, lambda rng: rng.normal(-24, 1, (10, 20))) <= _most(TRIALS)


def test_three_questions_of_one_set_are_one_family():
    """log p(x), the ELBO and their difference, each at a level of its own: wrong in 10% of sets."""

    def tell(pair):
        log_px, elbo = pair
        return np.array(holm([_over(values).p_values() for values in (log_px, elbo, elbo - log_px)]))

    assert _wrong(tell, lambda rng: (_correlated(rng, 4, 20), _correlated(rng, 4, 20))) <= _most(TRIALS)


def test_the_level_is_used_and_not_only_kept():
    """A correction that never calls anything would pass; independent runs are wrong nearly as often as is allowed."""
    wrong = _wrong(_unpaired, lambda rng: rng.normal(-24, 1, (2, 20)))
    assert binom.cdf(wrong, TRIALS, LEVEL * 0.8) > BUDGET / CHECKS


def test_all_that_is_said_of_unequal_runs_is_true():
    """Half of ten runs are better, and still no pair of equal ones is told apart more often than the level allows."""
    shift = np.where(np.arange(10) < 5, 0.2, 0.0)[:, None]
    false = shift[:, 0][:, None] <= shift[:, 0][None, :]
    wrong = _wrong(lambda values: _scored(values) & false, lambda rng: shift + _correlated(rng, 10, 50))
    assert wrong <= _most(TRIALS)


def test_a_better_run_is_found():
    """5.7 standard errors of the difference ahead of each of nine equal ones: 3.5 are needed at first, power 98%."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(300):
        values = _correlated(rng, 10, 200)
        values[3] += 5.7 * 0.3 * math.sqrt(2 / 200)
        found += bool(_scored(values)[3, np.arange(10) != 3].all())
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


def test_paired_p_values_are_those_of_scipy():
    values = _correlated(np.random.default_rng(3), 3, 12)
    found, mean = _over(values).p_values(), values.mean(1)
    for i in range(3):
        assert math.isnan(found[i, i])
        for j in range(3):
            if i != j and mean[i] - mean[j] > EQUAL:
                expected = ttest_1samp(values[i] - values[j], 0, alternative="greater").pvalue
                assert found[i, j] == pytest.approx(expected, rel=1e-9)


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


@pytest.mark.parametrize(("apart", "p"), [(0.0, 1.0), (EQUAL / 2, 1.0), (0.25, 0.0)])
def test_differences_that_do_not_vary_are_certain_or_nothing(apart, p):
    values = np.stack([np.arange(8.0) + apart, np.arange(8.0)])
    with np.errstate(all="raise"):
        found = _over(values).p_values()
    assert (found[0, 1], found[1, 0]) == (p, 1.0)


def test_what_is_unknown_is_not_tested():
    nan = math.nan
    ones = np.ones((2, 2))
    found = Differences(np.array([[0, 3.0], [-3.0, 0]]), nan * ones, 9 * ones, np.zeros((2, 2), bool)).p_values()
    assert np.isnan(found).all()
    one = Means(np.array([1.0, 0.0]), np.ones(2), [None, None])
    assert np.isnan(over_data(one, one, 1).p_values()).all(), "one datum has no spread"
