"""The mixture as an estimator: scikit-learn's own checks, its answers, and closed forms."""

import warnings

import numpy as np
import pandas
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.utils.estimator_checks import parametrize_with_checks

from taut import GaussianMixture, UserError

IRIS = load_iris().data


@parametrize_with_checks([GaussianMixture(max_iter=2)])
def test_the_checks_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two iterations do not converge, and some checks want another library
        check(estimator)


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_where_em_ends_is_where_that_of_scikit_learn_ends(kind):
    """From the same clusters, where both have the same maximum: theirs with no floor to speak of."""
    x = load_wine().data[:, :4] if kind == "full" else IRIS
    ours = GaussianMixture(2, covariance_type=kind, tol=1e-10).fit(x)
    start = {"weights_init": ours.weights_, "means_init": ours.means_}
    theirs = Theirs(2, covariance_type=kind, tol=1e-12, reg_covar=0, max_iter=5000, random_state=0, **start).fit(x)
    assert ours.converged_
    for name in ("weights_", "means_", "covariances_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=2e-3, atol=2e-4, err_msg=name)
    np.testing.assert_allclose(ours.score_samples(x), theirs.score_samples(x), atol=5e-3)
    np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=5e-3)
    assert ours.score(x) == pytest.approx(theirs.score(x), abs=1e-6)
    assert ours.lower_bound_ == pytest.approx(ours.score(x), abs=1e-12)
    for name in ("bic", "aic"):
        assert getattr(ours, name)(x) == pytest.approx(getattr(theirs, name)(x), abs=1e-3), name


def test_one_variance_of_all_columns_is_their_mean():
    x = np.concatenate([np.full((150, 1), 3.0), 100 * IRIS], 1)  # one of them is constant
    gm = GaussianMixture(1, covariance_type="spherical").fit(x)
    np.testing.assert_allclose(gm.covariances_, [x.var(0).mean()], rtol=1e-12)


def test_more_starts_end_no_lower():
    one, ten = (GaussianMixture(3, n_init=n).fit(load_wine().data[:, :6]) for n in (1, 10))
    assert ten.lower_bound_ >= one.lower_bound_ - 1e-6


def test_with_missing_cells_the_density_is_that_of_the_observed_ones():
    x = IRIS.copy()
    x[::3, 1] = np.nan
    gm = GaussianMixture(2).fit(x)
    row = x[:1]
    parts = [
        weight * multivariate_normal(mean[[0, 2, 3]], covariance[np.ix_([0, 2, 3], [0, 2, 3])]).pdf(row[0, [0, 2, 3]])
        for weight, mean, covariance in zip(gm.weights_, gm.means_, gm.covariances_, strict=True)
    ]
    assert gm.score_samples(row)[0] == pytest.approx(np.log(sum(parts)), abs=1e-9)
    np.testing.assert_allclose(gm.predict_proba(row)[0], np.array(parts) / sum(parts), atol=1e-9)


def test_draws_have_the_moments_of_the_mixture_and_name_their_component():
    """Five standard errors of a mean of 20,000 draws."""
    gm = GaussianMixture(2).fit(IRIS)
    x, component = gm.sample(20_000)
    for c in (0, 1):
        own = x[component == c]
        error = np.sqrt(np.diagonal(gm.covariances_[c]) / len(own))
        assert (np.abs(own.mean(0) - gm.means_[c]) < 5 * error).all()


def test_the_kind_that_comes_in_goes_out():
    frame = pandas.DataFrame(IRIS.astype(np.float32), columns=list("abcd"), index=range(7, 157))
    gm = GaussianMixture(2).fit(frame)
    proba, scores, (drawn, _) = gm.predict_proba(frame), gm.score_samples(frame), gm.sample(3)
    assert list(proba.columns) == ["component0", "component1"]
    assert proba.index.equals(frame.index)
    assert scores.index.equals(frame.index)
    assert list(drawn.columns) == list("abcd")
    assert set(drawn.dtypes) == {np.dtype("float32")}
    rows = torch.from_numpy(IRIS[:5].astype(np.float32))
    gm = GaussianMixture(2).fit(IRIS)
    assert gm.score_samples(rows).dtype == torch.float32
    assert gm.predict(rows).tolist() == gm.predict(IRIS[:5]).tolist()


def test_too_few_iterations_are_said():
    with pytest.warns(ConvergenceWarning, match="EM has not converged in 2 iterations; raise max_iter or tol."):
        GaussianMixture(3, max_iter=2).fit(IRIS)


def test_a_component_on_too_few_rows_is_told_of_in_words_of_python():
    x = np.concatenate([IRIS, [[1e3, 1e3, 1e3, 1e3]]])
    (sentence,) = [limit for limit in GaussianMixture(2).fit(x).limits_ if "fewer" in limit]
    assert sentence == (
        "1 of 2 components explain fewer than the 5 rows that covariance_type=full takes: the likelihood has no "
        "maximum, it is bounded by min_variance=1e-14 alone; choose fewer components or a simpler covariance."
    )


REFUSED = {
    "no components": ({"n_components": 0}, "n_components=0 must be a whole number, 1 or more."),
    "half a start": ({"n_init": 0.5}, "n_init=0.5 must be a whole number, 1 or more."),
    "no tolerance": ({"tol": 0.0}, "tol=0.0 must be a number above 0."),
    "another covariance": (
        {"covariance_type": "diagonal"},
        "covariance_type='diagonal' is not known; choose full, tied, diag, spherical.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_in_words_of_python(name):
    settings, sentence = REFUSED[name]
    with pytest.raises(UserError) as caught:
        GaussianMixture(**settings).fit(IRIS)
    assert str(caught.value) == sentence
