"""BIC, AIC and ICL against scikit-learn at the same parameters."""

import numpy as np
import pytest
import torch
from pieces import build
from sklearn.mixture import GaussianMixture

from taut.functional.missing import apply_mask
from taut.objective.em import expect
from taut.training.metrics import criteria

pytestmark = pytest.mark.usefixtures("float64")
COVARIANCES = {"full": "full", "diagonal": "diag", "spherical": "spherical", "tied": "tied"}


def _rows(n: int = 150) -> torch.Tensor:
    return torch.randn(n, 3) @ torch.randn(3, 3) + 3 * torch.randint(3, (n, 1))


def _mixture(x: torch.Tensor, covariance: str = "full"):
    joint, _, _ = build("model=mog", "model.components=3", f"likelihood.covariance={covariance}", x_shape=(3,))
    joint.likelihood.initialise(x)
    joint.prior.logits.data = torch.randn(3)
    return joint


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_criteria_are_those_of_scikit_learn_at_the_same_parameters(covariance):
    x = _rows()
    joint = _mixture(x, covariance)
    found = criteria(joint, x)
    precisions = np.linalg.inv(joint.likelihood.covariances().detach().numpy())
    other = GaussianMixture(3, covariance_type=COVARIANCES[covariance])
    other.weights_, other.means_ = joint.prior.probs.detach().numpy(), joint.likelihood.means.detach().numpy()
    diagonal = np.sqrt(np.diagonal(precisions, axis1=1, axis2=2))
    other.precisions_cholesky_ = {
        "full": np.linalg.cholesky(precisions) if covariance == "full" else None,
        "tied": np.linalg.cholesky(precisions[0]),
        "diagonal": diagonal,
        "spherical": diagonal[:, 0],
    }[covariance]
    r = other.predict_proba(x.numpy())
    entropy = -(r * np.log(np.maximum(r, 1e-300))).sum()
    assert found["bic"] == pytest.approx(other.bic(x.numpy()), rel=1e-10)
    assert found["aic"] == pytest.approx(other.aic(x.numpy()), rel=1e-10)
    assert found["icl"] == pytest.approx(other.bic(x.numpy()) + 2 * entropy, rel=1e-10)
    assert found["log_likelihood"] == pytest.approx(other.score_samples(x.numpy()).sum(), rel=1e-10)
    assert (found["n"], found["parameters"]) == (150, other._n_parameters())


def test_criteria_of_rows_with_holes_are_of_what_is_observed():
    x = _rows()
    joint, some = _mixture(x), apply_mask(x, torch.rand(x.shape) > 0.3)
    found = criteria(joint, some)
    log_px = expect(joint, some)[0].sum().item()
    assert found["log_likelihood"] == pytest.approx(log_px, rel=1e-10)
    assert found["bic"] == pytest.approx(-2 * log_px + found["parameters"] * np.log(150), rel=1e-10)


def test_icl_is_for_categories_and_no_criterion_for_networks():
    joint, _, _ = build("model=mog", "model.components=3", "likelihood=bernoulli", "objective=exact")
    assert criteria(joint, torch.zeros(4, 1, 4, 4)) is None
