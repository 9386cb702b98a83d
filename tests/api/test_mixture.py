"""The mixture as an estimator: scikit-learn's own checks, its answers, and closed forms."""

import warnings

from sklearn.utils.estimator_checks import parametrize_with_checks

from taut import GaussianMixture


@parametrize_with_checks([GaussianMixture(max_iter=2)])
def test_the_checks_of_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two iterations do not converge, and some checks want another library
        check(estimator)
