"""Several imputations as one: Rubin's rules by hand, and tables whose pooled error is known in closed form."""

import math

import numpy as np
import pandas
import pytest
from scipy.stats import norm, t

from taut.completion import Imputer, pool
from taut.errors import UserError


def _pair(n, seed=0):
    """Rows of N(0, [[2, 1], [1, 2]]), and the same without half of the first coordinates."""
    generator = np.random.default_rng(seed)
    x = generator.multivariate_normal([0, 0], [[2, 1], [1, 2]], n)
    return x, np.where(np.stack([generator.random(n) < 0.5, np.zeros(n, dtype=bool)], 1), np.nan, x)


def test_the_rules_are_those_worked_by_hand():
    """Rubin (1987, section 3.1): Q = 2, U = 1/2, B = 1, m = 3; T = 11/6, r = 8/3, nu = 2 (1 + 3/8)^2 = 3.78125."""
    found = pool([1.0, 2.0, 3.0], [0.25, 0.5, 0.75])
    assert (float(found.estimate), float(found.within), float(found.between)) == (2, 0.5, 1)
    assert float(found.variance) == pytest.approx(11 / 6)
    assert float(found.freedom) == pytest.approx(3.78125)
    assert float(found.missing_information) == pytest.approx((8 / 3 + 2 / 6.78125) / (11 / 3))
    low, high = found.interval(0.9)
    assert [float(low), float(high)] == pytest.approx(t.interval(0.9, 3.78125, 2, math.sqrt(11 / 6)))


def test_imputations_that_agree_add_nothing():
    found = pool([[1.0, 5.0]] * 4, [[0.04, 0.0]] * 4)
    assert found.variance.tolist() == [0.04, 0]
    assert found.missing_information[0] == 0
    assert found.interval()[1][0] == pytest.approx(1 + 0.2 * norm.isf(0.025), rel=1e-6)


@pytest.mark.parametrize(
    ("estimates", "variances", "said"),
    [
        ([1.0], [1.0], "pool() got 1 estimates and 1 variances; give one of each for 2 tables or more."),
        ([1.0, 2.0], [1.0], "pool() got 2 estimates and 1 variances; give one of each for 2 tables or more."),
        ([1.0, 2.0], [1.0, [1.0]], "pool() got estimates and variances of several shapes; give all of them one shape."),
        ([1.0, 2.0], [1.0, -1.0], "pool() got a variance below 0; give squares of standard errors."),
    ],
)
def test_what_cannot_be_pooled_is_refused(estimates, variances, said):
    with pytest.raises(UserError) as caught:
        pool(estimates, variances)
    assert str(caught.value) == said


def test_the_error_of_a_mean_is_that_of_the_observed_cells(trainings):
    """Cells missing at random from a single column tell nothing: T = s^2 / n of the 15 that are there.

    Draws of one fitted model would say 3/4 of that, and one imputation half of it.
    """
    x = np.random.default_rng(0).normal(3, 2, (30, 1))
    x[15:] = np.nan
    tables = Imputer().fit(x).imputations(x, 40)
    found = pool([table.mean() for table in tables], [table.var(ddof=1) / 30 for table in tables])
    assert float(found.variance) == pytest.approx(np.nanvar(x, ddof=1) / 15, rel=0.2)


def test_intervals_are_those_of_the_conditional():
    """N(x2 / 2, 3/2) at 90%: so wide on average, about that mean, and held by nine in ten of what was hidden."""
    x, seen = _pair(1_000)
    imputer = Imputer().fit(seen)
    low, high = imputer.interval(seen, 0.9)
    hidden = np.isnan(seen)
    inside = (low <= x) & (x <= high)
    assert abs(inside[hidden].mean() - 0.9) < 0.035
    assert inside[~hidden].all()
    assert np.array_equal(low[~hidden], high[~hidden])
    reach = norm.isf(0.05) * math.sqrt(1.5)
    assert (high - low)[hidden].mean() == pytest.approx(2 * reach, rel=0.05)
    assert ((high + low) / 2 - x[:, 1:] / 2)[hidden].mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("share", [0.0, 1.0, 0.905, 90, -0.5])
def test_a_share_that_is_no_percent_is_refused(share):
    imputer = Imputer().fit(np.array([[0.0, 1.0], [1.0, np.nan], [2.0, 3.0]]))
    with pytest.raises(UserError, match=r"must be a whole number of percent from 0\.01 to 0\.99, such as 0\.9\.$"):
        imputer.interval([[1.0, np.nan]], share)


def test_samples_are_tables_of_the_same_kind_and_differ_where_cells_were_missing():
    _, seen = _pair(30)
    frame = pandas.DataFrame(seen, columns=["a", "b"])
    first, second = Imputer(seed=3).fit(frame).sample(frame, 2)
    assert list(first.columns) == ["a", "b"]
    assert (first["b"] == frame["b"]).all()
    differ = (first != second).to_numpy()
    assert np.array_equal(differ, np.isnan(seen))
    alone = Imputer(seed=3, fill="draw").fit(frame)
    pandas.testing.assert_frame_equal(alone.sample(frame, 1)[0], alone.transform(frame))
