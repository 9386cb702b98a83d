"""Synthetic rows follow the density that they claim, judged by scipy and scikit-learn."""

import numpy as np
import pytest
import torch
from budget import THRESHOLD
from scipy.stats import chi2, kstest, multivariate_normal, poisson
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from taut.data.synthetic import Synthetic
from taut.errors import UserError


def rows_of(data: Synthetic) -> np.ndarray:
    return torch.cat(list(data.stored)).numpy()


def test_mixture_density_is_scikit_learns():
    data = Synthetic(batch_size=None, kind="mixture", n=500, dim=3, components=4)
    components = data.truth.component_distribution
    witness = GaussianMixture(4)
    witness.weights_, witness.means_ = data.truth.mixture_distribution.probs.numpy(), components.loc.numpy()
    witness.covariances_ = components.covariance_matrix.numpy()
    witness.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(witness.covariances_))
    x = rows_of(data)
    assert np.allclose(data.log_px(torch.from_numpy(x)), witness.score_samples(x), atol=1e-9)


def test_linear_gaussian_density_is_scipys():
    data = Synthetic(batch_size=None, kind="linear_gaussian", n=500, dim=5, latent=2, noise=0.3)
    gaussian = data.truth.component_distribution
    mean, covariance = gaussian.loc[0].numpy(), gaussian.covariance_matrix[0].numpy()
    x = rows_of(data)
    assert np.allclose(data.log_px(torch.from_numpy(x)), multivariate_normal(mean, covariance).logpdf(x), atol=1e-9)
    assert np.allclose(np.linalg.eigvalsh(covariance)[:3], 0.09)  # d - latent directions of pure noise
    assert np.linalg.eigvalsh(covariance)[3] > 0.1


def test_linear_gaussian_rows_follow_their_density():
    """Mahalanobis distances are chi-squared, and the maximum-likelihood fit beats the truth by little."""
    data = Synthetic(batch_size=None, kind="linear_gaussian", n=20000, dim=5, latent=2)
    gaussian = data.truth.component_distribution
    x = rows_of(data)
    centred = x - gaussian.loc[0].numpy()
    distances = (centred @ np.linalg.inv(gaussian.covariance_matrix[0].numpy()) * centred).sum(1)
    assert kstest(distances, chi2(5).cdf).pvalue > 1e-9
    excess = PCA(2).fit(x).score(x) - data.log_px(torch.from_numpy(x)).mean().item()
    assert 0 <= 2 * len(x) * excess <= chi2(15).isf(1e-9)  # likelihood ratio, 15 free parameters


def test_mixture_rows_follow_their_density():
    """Responsibilities average to the weights, and every component has its own mean."""
    data = Synthetic(batch_size=None, kind="mixture", n=20000, dim=2, components=3)
    weights, components = data.truth.mixture_distribution.probs, data.truth.component_distribution
    x = torch.from_numpy(rows_of(data))
    joint = components.log_prob(x[:, None]) + weights.log()
    responsibilities = (joint - joint.logsumexp(1, keepdim=True)).exp()
    for c in range(3):
        r = responsibilities[:, c]
        assert abs(r.mean() - weights[c]) <= THRESHOLD * r.std() / len(x) ** 0.5
        for moment in (x, x[:, :1] * x):
            centred = r[:, None] * (moment - moment_of(components, c, moment is x))
            assert (centred.mean(0).abs() <= THRESHOLD * centred.std(0) / len(x) ** 0.5).all()


def test_counts_follow_the_mixture_that_scipy_has():
    """Frequencies of the first column are the masses; the second column is correlated with it as the mixture says."""
    data = Synthetic(batch_size=None, kind="counts", n=20000, dim=2, components=3)
    weights, rates = data.truth.mixture_distribution.probs.numpy(), data.truth.component_distribution.mean.numpy()
    x = rows_of(data)
    mass = (weights * poisson(rates).pmf(x[:, None]).prod(-1)).sum(1)
    assert np.allclose(data.log_px(torch.from_numpy(x)), np.log(mass), atol=1e-9)
    values = np.arange(60)
    expected = weights @ poisson(rates[:, :1]).pmf(values)
    found = (x[:, :1] == values).mean(0)
    assert (abs(found - expected) <= THRESHOLD * np.sqrt(expected * (1 - expected) / len(x)) + 1e-12).all()
    product = x.prod(1)
    assert abs(product.mean() - weights @ rates.prod(1)) <= THRESHOLD * product.std() / len(x) ** 0.5


def moment_of(components, c, first):
    mean, covariance = components.loc[c], components.covariance_matrix[c]
    return mean if first else covariance[0] + mean[0] * mean


@pytest.mark.parametrize("kind", ["mixture", "linear_gaussian", "counts"])
def test_the_density_belongs_to_the_split_seed(kind):
    same, other = (Synthetic(batch_size=None, kind=kind, split_seed=s, seed=s) for s in (0, 1))
    again = Synthetic(batch_size=None, kind=kind, split_seed=0, seed=5)
    assert same.digest == again.digest != other.digest
    assert [len(split) for split in same.stored] == [600, 200, 200]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "moons"}, "mixture, linear_gaussian or counts"),
        ({"n": 4}, "data.n=4"),
        ({"dim": 0}, "data.dim=0"),
        ({"components": 0}, "data.components=0"),
        ({"noise": 0.0}, "data.noise=0.0"),
        ({"noise": float("nan")}, "data.noise=nan"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        Synthetic(batch_size=None, **options)
