"""Exact log p(x) and posteriors against scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from pieces import build
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from taut.errors import UserError
from taut.model import exact_inference
from taut.model.draws import draw

pytestmark = pytest.mark.usefixtures("float64")


def _mixture(covariance: str, components: int = 3, size: int = 4):
    joint, _, _ = build(
        "model=mog", f"model.components={components}", f"likelihood.covariance={covariance}", x_shape=(size,)
    )
    likelihood = joint.likelihood
    with torch.no_grad():
        joint.prior.logits.normal_()
        likelihood.log_scales.normal_(std=0.5)
        if covariance == "full":
            likelihood.lower.normal_()
    return joint


@pytest.mark.parametrize("covariance", ["spherical", "diagonal", "full"])
def test_mixture_of_gaussians_equals_scikit_learn(covariance):
    joint = _mixture(covariance)
    sklearn = GaussianMixture(3, covariance_type="full")
    sklearn.means_ = joint.likelihood.means.detach().numpy()
    sklearn.weights_ = joint.prior.probs.detach().numpy()
    sklearn.precisions_cholesky_ = np.linalg.inv(joint.likelihood.scale_tril().detach().numpy()).transpose(0, 2, 1)
    x = torch.randn(50, 4) * 3
    np.testing.assert_allclose(
        exact_inference.log_marginal(joint, x).detach(), sklearn.score_samples(x.numpy()), rtol=1e-11
    )
    np.testing.assert_allclose(
        exact_inference.posterior(joint, x).probs.detach(), sklearn.predict_proba(x.numpy()), atol=1e-11
    )


def test_ppca_equals_a_dense_normal_and_its_conditional():
    joint, _, _ = build("model=ppca", x_shape=(5,))
    likelihood = joint.likelihood
    with torch.no_grad():
        likelihood.offset.normal_()
        likelihood.log_variance.fill_(-1.0)
    w, mu, s2 = (
        likelihood.weight.detach().numpy(),
        likelihood.mean.detach().numpy(),
        likelihood.variance.item(),
    )
    cov = w @ w.T + s2 * np.eye(5)
    x = torch.randn(20, 5)
    np.testing.assert_allclose(
        exact_inference.log_marginal(joint, x).detach(), multivariate_normal(mu, cov).logpdf(x.numpy()), rtol=1e-11
    )
    posterior = exact_inference.posterior(joint, x)
    gain = w.T @ np.linalg.inv(cov)
    np.testing.assert_allclose(posterior.mean.detach(), (x.numpy() - mu) @ gain.T, atol=1e-11)
    np.testing.assert_allclose(posterior.covariance_matrix[0].detach(), np.eye(3) - gain @ w, atol=1e-11)


def test_mixture_prior_with_linear_decoder_equals_a_dense_mixture():
    joint, _, _ = build("model=ppca", "prior=mixture", "prior.components=3", x_shape=(4,))
    prior, likelihood = joint.prior, joint.likelihood
    with torch.no_grad():
        prior.logits.normal_()
        prior.log_scales.normal_(std=0.3)
    w, s2 = likelihood.weight.detach().numpy(), likelihood.variance.item()
    x = torch.randn(9, 4)
    terms = [
        np.log(p) + multivariate_normal(w @ m, w @ np.diag(np.exp(2 * s)) @ w.T + s2 * np.eye(4)).logpdf(x.numpy())
        for p, m, s in zip(
            prior.logits.softmax(0).tolist(),
            prior.means.detach().numpy(),
            prior.log_scales.detach().numpy(),
            strict=True,
        )
    ]
    np.testing.assert_allclose(
        exact_inference.log_marginal(joint, x).detach(), np.logaddexp.reduce(terms, 0), rtol=1e-11
    )


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=mog", "model.components=4"],
        ["model=mog", "model.components=4", "likelihood=bernoulli", "q=exact"],
        ["model=mog", "model.components=4", "prior=uniform"],
        ["model=ppca"],
        ["model=fa"],
        ["model=ppca", "prior=mixture", "prior.components=3"],
    ],
    ids=" ".join,
)
def test_under_the_exact_posterior_every_weight_is_log_px(overrides):
    joint, q, _ = build(*overrides)
    x = torch.randint(2, (5, 1, 4, 4)).double()
    log_w = draw(joint, q, x, 7).log_w
    expected = exact_inference.log_marginal(joint, x)
    torch.testing.assert_close(log_w, expected.expand(7, 5), rtol=1e-11, atol=1e-11)


def test_bernoulli_mixture_sums_to_one_over_every_image():
    joint, _, _ = build("model=mog", "model.components=3", "likelihood=bernoulli", "q=exact", x_shape=(1, 2, 4))
    images = torch.tensor([[(i >> j) & 1 for j in range(8)] for i in range(256)]).double().view(256, 1, 2, 4)
    assert exact_inference.log_marginal(joint, images).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_intractable_posterior_is_refused_by_name():
    with pytest.raises(UserError, match=r"prior=normal with likelihood=bernoulli is not known.*q=diagonal"):
        build("q=exact")
