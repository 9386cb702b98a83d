"""scikit-learn's mixtures and factor analysis: exact, as scikit-learn itself has it."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import GaussianMixture

import taut

X = load_iris().data


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_a_mixture_is_exact_and_its_posterior_leaves_no_gap(kind):
    """A factor of the covariance for its inverse, or one component's for another's."""
    model = GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    report = taut.audit(model, data=X, k=50, reported=model.score(X))
    assert report.evidence["exact"]["value"] == pytest.approx(model.score(X), abs=1e-9)
    assert report.gap["exact"]
    assert report.gap["low"]["value"] == pytest.approx(0, abs=1e-9)
    assert "agrees with log p(x)" in report.result["reported"]["words"]
    assert report.result["simulated"]["gap"]["low"]["value"] == pytest.approx(0, abs=1e-9)


def test_factor_analysis_is_exact_and_its_posterior_leaves_no_gap():
    model = FactorAnalysis(2).fit(X)
    report = taut.audit(model, data=X, k=50, reported=model.score(X) + 0.3)
    assert report.evidence["exact"]["value"] == pytest.approx(model.score(X), abs=1e-6)
    assert report.gap["low"]["value"] == pytest.approx(0, abs=1e-6)
    assert report.evidence["struski"]["value"] == pytest.approx(model.score(X), abs=1e-6)
    assert "lies 0.3 nats above log p(x)" in report.result["reported"]["words"]


def test_models_that_do_not_fit_are_refused():
    with pytest.raises(taut.UserError, match="The GaussianMixture has not been fitted; call its fit"):
        taut.audit(GaussianMixture(2), data=X)
    with pytest.raises(taut.UserError, match=r"x has rows of shape .3., and the model was fitted to 4 columns"):
        taut.audit(FactorAnalysis(2).fit(X), data=X[:, :3])
    with pytest.raises(taut.UserError, match="PCA cannot be audited; give an object with log_joint"):
        taut.audit(PCA(2).fit(X), data=X)
    with pytest.raises(taut.UserError, match="brings no data along; give data=x"):
        taut.audit(FactorAnalysis(2).fit(np.asarray(X)))
