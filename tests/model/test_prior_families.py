"""Priors against scipy's densities, and the starts that they take from data."""

import numpy as np
import pytest
import scipy.stats
import torch
from pieces import build
from torch.distributions import Independent, Normal, kl_divergence

from taut.errors import UserError
from taut.model.prior.mixture import Mixture

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (["prior=laplace", "prior.scale=0.7"], scipy.stats.laplace(scale=0.7)),
        (["prior=student_t", "prior.df=3"], scipy.stats.t(3)),
    ],
    ids=["laplace", "student_t"],
)
def test_a_prior_has_the_density_of_scipy(words, known):
    p = build(*words, "latent_dim=2")[0].prior()
    z = 5 * torch.randn(20, 2)
    np.testing.assert_allclose(p.log_prob(z), known.logpdf(z.numpy()).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(p.variance, [known.var()] * 2, rtol=1e-7)


def test_tails_without_a_variance_are_refused():
    with pytest.raises(UserError, match=r"prior\.df must be above 2, where a coordinate has a variance, got 2"):
        build("prior=student_t", "prior.df=2.0")


def test_the_kl_to_a_laplace_prior_is_known_by_dimension():
    """Torch's closed form of a Gaussian against a Laplace, by quadrature."""
    prior, q = build("prior=laplace", "latent_dim=1")[0].prior(), Independent(Normal(torch.tensor([0.3]), 0.5), 1)
    grid = torch.linspace(-6, 6, 200_001).unsqueeze(-1)
    log_q = q.log_prob(grid)
    by_quadrature = torch.trapezoid(log_q.exp() * (log_q - prior.log_prob(grid)), grid[:, 0])
    torch.testing.assert_close(kl_divergence(q.base_dist, prior.base_dist)[0], by_quadrature, rtol=1e-7, atol=1e-7)


def test_weights_of_pseudo_inputs_are_learned_where_asked_for():
    """Weights that stay at 1/C, or that a stored run of equal weights would lack."""
    joint, q, _ = build("prior=vamp", "prior.components=3", "prior.learn_weights=true", "latent_dim=2")
    joint.prior.initialise(torch.rand(20, 1, 4, 4))
    with torch.no_grad():
        joint.prior.logits.copy_(torch.tensor([0.1, 0.6, 0.3]).log())
    z = torch.randn(7, 2)
    each = q(joint.prior.pseudo_inputs).log_prob(z.unsqueeze(1)).detach().numpy()
    np.testing.assert_allclose(joint.prior().log_prob(z).detach(), np.log(np.exp(each) @ [0.1, 0.6, 0.3]), rtol=1e-12)
    equal = build("prior=vamp", "prior.components=3", "latent_dim=2")[0].prior
    assert "logits" in joint.prior.state_dict()
    assert "logits" not in equal.state_dict()


def _by_kmeans(z: torch.Tensor, components: int, **settings) -> Mixture:
    prior = Mixture(z.shape[1], components, init="kmeans", **settings)
    prior.attach(lambda x: Independent(Normal(x, 1e-9), 1))
    prior.initialise(z)
    return prior


def test_a_mixture_starts_at_the_clusters_of_encoded_data():
    """Means in another order than weights; a variance for a deviation; weights that are not those of the clusters."""
    parts = [torch.randn(n, 2) * s + m for n, s, m in ((300, 0.5, -9.0), (100, 2.0, 9.0))]
    prior = _by_kmeans(torch.cat(parts), 2)
    order = prior.means[:, 0].argsort()
    torch.testing.assert_close(prior.means[order].detach(), torch.stack([part.mean(0) for part in parts]))
    spread = torch.stack([part.std(0, correction=0) for part in parts])
    torch.testing.assert_close(prior.log_scales[order].exp().detach(), spread)
    torch.testing.assert_close(prior.logits.softmax(-1)[order].detach(), torch.tensor([0.75, 0.25]))


def test_clusters_of_equal_rows_leave_a_density():
    prior = _by_kmeans(torch.zeros(5, 2), 3, learn_weights=False)
    assert prior().log_prob(torch.zeros(2)).isfinite()
    with pytest.raises(UserError, match=r"prior\.components=9 is more than the 5 training rows"):
        _by_kmeans(torch.zeros(5, 2), 9)
