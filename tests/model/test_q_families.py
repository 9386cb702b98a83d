"""Richer families of q: against scipy and closed forms, and where the best member of each is known."""

import pytest
import scipy.stats
import torch
from pieces import build
from torch.distributions import Independent, MultivariateNormal, Normal

from taut.errors import RunError, UserError
from taut.evidence import Rows, Target
from taut.evidence.gap import decompose
from taut.evidence.optimal_q import Family, Search, noise_shape, reparameterised
from taut.evidence.weights import Weights
from taut.functional.precision import in_double, refuse_degenerate
from taut.objective.elbo import gaussian_kl
from taut.testing import linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")


def _family(name: str, d: int, *words: str) -> tuple[Family, int]:
    """A family without its network, and the number of its parameters."""
    _, q, _ = build(f"q={name}", f"latent_dim={d}", *words, x_shape=(5,))
    outputs = q.parameters_of(torch.zeros(1, 5)).shape[1]
    return Family(lambda p: in_double(q.distribution(p)), lambda x: torch.zeros(len(x), outputs)), outputs


def _dense(parameters: torch.Tensor, d: int, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of ``low_rank`` as its docstring has them."""
    mean, log_variance, entries = parameters.split([d, d, d * r], -1)
    factor = entries.view(-1, d, r) + torch.eye(d, r)
    std = torch.diag_embed((log_variance / 2).exp())
    return mean, std @ (torch.eye(d) + factor @ factor.mT) @ std


def test_low_rank_has_the_density_of_its_dense_covariance_and_the_closed_form_of_its_kl():
    family, outputs = _family("low_rank", 4)
    parameters = 0.7 * torch.randn(3, outputs)
    q, (mean, covariance) = family.distribution(parameters), _dense(parameters, 4, 2)
    z = q.sample((6,))
    for b in range(3):
        known = scipy.stats.multivariate_normal(mean[b], covariance[b]).logpdf(z[:, b].numpy())
        torch.testing.assert_close(q.log_prob(z)[:, b], torch.as_tensor(known), rtol=1e-10, atol=1e-10)
    normal = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
    trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
    kl = (trace + mean.square().sum(-1) - 4 - covariance.logdet()) / 2
    torch.testing.assert_close(gaussian_kl(q, normal), kl)
    columns = reparameterised(q, torch.eye(4)[:, None].expand(-1, 3, -1)) - q.mean
    torch.testing.assert_close(torch.einsum("kbi,kbj->bij", columns, columns), covariance)


def test_low_rank_keeps_its_digits_where_it_is_narrow():
    """A capacitance of float32, or a factor relative to 1 and not to the deviations."""
    family, outputs = _family("low_rank", 4)
    parameters = torch.randn(3, outputs)
    parameters[:, 4:8] = -25.0
    q, (mean, covariance) = family.distribution(parameters.float()), _dense(parameters.float().double(), 4, 2)
    z = q.sample((6,))
    known = (
        MultivariateNormal(mean, covariance * 1e10).log_prob(mean + (z - mean) * 1e5) + 4 * 5 * torch.tensor(10.0).log()
    )
    torch.testing.assert_close(q.log_prob(z), known, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["low_rank", "student_t"])
def test_the_best_member_of_a_family_on_a_gaussian_posterior(trainings, name):
    """Rank 2 holds every covariance of three coordinates; independent ones do not, and tails are no help."""
    known = linear_gaussian(3, 5, 1)
    family, _ = _family(name, 3)
    target = Target(known.target.log_joint, lambda x: family.distribution(family.parameters(x)), known.target.prior)
    parts = decompose(Rows(target, known.x), family, Search(400, 16, 0.15), k=2000)
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(5))
    precision = torch.eye(3) + weight.T @ weight / 0.25
    of_diagonal = (precision.diagonal().log().sum() - precision.logdet()).item() / 2
    gap = parts.approximation(known.log_px).item()
    assert gap == pytest.approx(0, abs=0.02) if name == "low_rank" else of_diagonal < gap < of_diagonal + 0.2


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("freedom", [-20.0, 30.0])
def test_a_narrow_students_t_is_still_flagged(d, freedom):
    """Heavy tails bound the weights in the end, and 1,000 draws do not get there: k-hat must say so."""
    family, _ = _family("student_t", d)
    parameters = torch.cat([torch.zeros(30, d), torch.full((30, d), -6.0), torch.full((30, d), freedom)], 1)
    q = family.distribution(parameters)
    z = q.sample((1000,))
    weights = Weights(Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z))
    assert weights.khat.median() > 0.7
    wide = family.distribution(torch.cat([parameters[:, : 2 * d] * 0, parameters[:, 2 * d :]], 1))
    z = wide.sample((1000,))
    assert Weights(Normal(0.0, 1.0).log_prob(z).sum(-1) - wide.log_prob(z)).khat.median() < 0.5


@pytest.mark.parametrize("name", ["low_rank", "student_t"])
def test_a_scale_lost_in_the_rounding_of_z_is_refused(name):
    family, outputs = _family(name, 2)
    parameters = torch.zeros(1, outputs)
    parameters[:, :2], parameters[:, 2:4] = 1e8, -30.0
    with pytest.raises(RunError, match="is degenerate"):
        refuse_degenerate(family.distribution(parameters), "The distribution of z for row 0")


def test_noise_of_a_family_has_the_shape_it_says():
    for name, numbers in (("low_rank", 2), ("student_t", 4)):
        family, outputs = _family(name, 2)
        q = family.distribution(torch.zeros(3, outputs))
        assert noise_shape(q) == (numbers,)
        assert reparameterised(q, torch.randn(5, 3, numbers)).shape == (5, 3, 2)


def test_heavy_tails_do_not_go_with_a_box():
    with pytest.raises(UserError, match="q=student_t is for a z without bounds, but prior=uniform has them"):
        build("prior=uniform", "q=student_t")
