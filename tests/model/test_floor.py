"""Floors of a mixture's variances: relative to each column, silent where they do not bind, and said where they do."""

import numpy as np
import pytest
import torch
from pieces import build
from scipy.stats import multivariate_normal

from taut.functional.gaussian import bounded, triangular
from taut.functional.missing import apply_mask
from taut.model import exact_inference
from taut.objective.em import expect

pytestmark = pytest.mark.usefixtures("float64")
KINDS = {"full": "full", "diagonal": "diag"}


def _fitted(x: torch.Tensor, components: int = 2, epochs: int = 20, **settings: object):
    """A mixture after some iterations of EM, and its mean log p(x) before each."""
    words = [f"likelihood.{name}={value}" for name, value in settings.items()]
    joint, _, em = build("model=mog", f"model.components={components}", *words, x_shape=(x.shape[1],))
    torch.manual_seed(0)
    joint.likelihood.initialise(x)
    em.optimizer(joint, joint.parameters(), torch.optim.SGD)
    trace = []
    for _ in range(epochs):
        trace.append(em.expect(joint, x).mean().item())
        em.end_of_epoch()
    return joint, trace


def _clusters(n: int = 200) -> torch.Tensor:
    return torch.randn(n, 3) @ (torch.eye(3) + 0.4 * torch.randn(3, 3)) + 5 * torch.randint(2, (n, 1))


def _closed_form(x: torch.Tensor) -> float:
    """The maximum of one Gaussian: -(D log 2 pi e + log |S|) / 2, its determinant by an SVD of the centred rows."""
    centred = x.numpy() - x.numpy().mean(0)
    log_det = 2 * np.log(np.linalg.svd(centred, compute_uv=False) / len(x) ** 0.5).sum()
    return -0.5 * (x.shape[1] * np.log(2 * np.pi * np.e) + log_det)


@pytest.mark.parametrize("scale", [1e-8, 1e-5, 1e5, 1e8])
def test_one_gaussian_reaches_its_closed_form_in_every_unit(scale):
    x = scale * torch.randn(300, 3) @ (torch.eye(3) + 0.3 * torch.randn(3, 3))
    joint, trace = _fitted(x, 1, 3)
    assert trace[-1] == pytest.approx(_closed_form(x), abs=1e-9)
    assert joint.likelihood.limits(torch.zeros(1, 1)) == []


@pytest.mark.parametrize("narrow", [1e-3, 1e-6])
def test_columns_that_are_nearly_collinear_reach_their_closed_form(narrow):
    """Eigenvalues down to 1e-13 of the others; by the SVD they are known to a rounding of x over 1e-6, 1e-10."""
    x = torch.randn(300, 3)
    x[:, 1] = 2 * x[:, 0] + narrow * x[:, 1]
    joint, trace = _fitted(x, 1, 3)
    assert trace[-1] == pytest.approx(_closed_form(x), abs=1e-9)
    assert joint.likelihood.limits(torch.zeros(1, 1)) == []


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("covariance", KINDS)
def test_log_px_moves_by_the_log_of_the_scale_alone(covariance, share):
    """Each column in a unit of its own; x + 1e9 is rounded to 1e-7, which log p(x) feels as the slope times that."""
    x = _clusters()
    hidden = torch.rand(x.shape) < share
    scale, offset = torch.tensor([1e-8, 1.0, 1e8]), torch.tensor([0.0, 1e9, -1e9])
    moved = (x * scale + offset).masked_fill(hidden, torch.nan)
    back = ((moved - offset) / scale).masked_fill(hidden, torch.nan)  # what is left of x, exactly that
    one, first = _fitted(back, covariance=covariance)
    other, second = _fitted(moved, covariance=covariance)
    log_scale = (torch.where(hidden, 0.0, scale.log())).sum(1)
    np.testing.assert_allclose(second, np.array(first) - log_scale.mean().item(), rtol=1e-9)
    found = exact_inference.log_marginal(other, moved).detach() + log_scale
    torch.testing.assert_close(found, exact_inference.log_marginal(one, back).detach(), rtol=1e-6, atol=1e-6)


def test_a_common_scale_moves_a_spherical_mixture_by_its_log():
    x = _clusters()
    first, second = (_fitted(y, covariance="spherical")[1] for y in (x, 1e-6 * x + 3))
    np.testing.assert_allclose(second, np.array(first) - 3 * np.log(1e-6), rtol=1e-7)


HARD = {
    "scales": lambda x: x * torch.tensor([1e-8, 1.0, 1e8]),
    "offsets": lambda x: x + torch.tensor([1e9, -1e9, 1e5]),
    "a column twice": lambda x: torch.cat([x, x[:, :1]], 1),
    "a column twice in other units": lambda x: torch.cat([x, 1e8 * x[:, :1] + 1e9], 1),
    "parts and their total": lambda x: torch.cat([x, x.sum(1, keepdim=True)], 1),
    "nearly collinear": lambda x: torch.cat([x, x[:, :1] + 1e-6 * torch.randn(len(x), 1)], 1),
    "a constant": lambda x: torch.cat([x, torch.full((len(x), 1), 0.1)], 1),
    "two values": lambda x: torch.cat([x, (x[:, :1] > 0).double()], 1),
}


@pytest.mark.parametrize("share", [0.0, 0.25])
@pytest.mark.parametrize("covariance", ["full", "diagonal", "spherical"])
@pytest.mark.parametrize("case", HARD)
def test_log_px_never_falls(case, covariance, share):
    x = HARD[case](_clusters(90))
    x = apply_mask(x, torch.rand(x.shape) >= share) if share else x
    trace = np.array(_fitted(x, 3, 20, covariance=covariance)[1])
    assert np.isfinite(trace).all()
    assert (np.diff(trace) >= -1e-9 * np.abs(trace[1:])).all()


def test_a_column_that_is_there_twice_binds_the_floor_and_that_is_said():
    """Its density in the direction that is not there is that of N(0, floor) at 0, whatever the floor."""
    x = _clusters()
    values = {}
    for floor in ("1e-8", "1e-12"):
        joint, trace = _fitted(torch.cat([x, x[:, :1]], 1), 2, min_variance=floor)
        values[floor] = trace[-1]
        (said,) = joint.likelihood.limits(torch.zeros(1, 2))
        assert "2 of 2 components" in said
        assert f"likelihood.min_variance={float(floor):g}" in said
    assert values["1e-12"] - values["1e-8"] == pytest.approx(0.5 * np.log(1e4), abs=1e-6)


def test_a_constant_column_has_the_floor_for_its_variance_and_that_is_said():
    x = torch.cat([_clusters(), torch.full((200, 1), 0.1)], 1)
    alone, with_constant = (_fitted(y, covariance="diagonal")[1][-1] for y in (x[:, :3], x))
    assert with_constant - alone == pytest.approx(-0.5 * np.log(2 * np.pi * 1e-14), abs=1e-9)
    said = _fitted(x)[0].likelihood.limits(torch.zeros(1, 2))
    assert any("1 of 4 columns have one value" in sentence for sentence in said)


def test_a_component_of_too_few_rows_is_said_to_leave_the_likelihood_without_a_maximum():
    far = torch.cat([torch.randn(60, 3), 50 + torch.randn(3, 3)])
    joint, trace = _fitted(far, 2, 60)
    said = joint.likelihood.limits(torch.zeros(1, 2))
    assert any("1 of 2 components explain fewer than the 4 rows" in sentence for sentence in said)
    assert any("binds in 1 of 2 components" in sentence for sentence in said)
    assert np.isfinite(trace[-1])
    assert _fitted(torch.cat([far, 50 + torch.randn(2, 3)]), 2, 60)[0].likelihood.limits(torch.zeros(1, 2)) == []


@pytest.mark.parametrize("covariance", ["full", "diagonal", "spherical"])
def test_degrees_of_freedom_are_those_of_scikit_learn(covariance):
    from sklearn.mixture import GaussianMixture

    x = _clusters()
    joint, _, _ = build("model=mog", "model.components=3", f"likelihood.covariance={covariance}", x_shape=(3,))
    other = GaussianMixture(3, covariance_type={"diagonal": "diag"}.get(covariance, covariance)).fit(x.numpy())
    assert joint.likelihood.degrees_of_freedom + joint.prior.degrees_of_freedom == other._n_parameters()


def test_a_table_in_single_precision_keeps_what_its_parameters_are_relative_to():
    x = _clusters() * 1e-3 + 1e9
    joint, _, _ = build("model=mog", "model.components=2", x_shape=(3,))
    joint.likelihood.initialise(x)
    before = exact_inference.log_marginal(joint, x).detach()
    joint.float()
    assert joint.likelihood.centre.dtype == joint.likelihood.unit.dtype == torch.float64
    torch.testing.assert_close(exact_inference.log_marginal(joint, x).detach(), before, rtol=1e-4, atol=1e-4)


def test_raised_eigenvalues_are_those_of_numpy_and_others_stay():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    covariance = (turn * [1.0, 1e-3, 1e-9, 0.0]) @ turn.T
    factor = bounded(torch.eye(4)[None], torch.as_tensor(covariance)[None], 1e-6)
    assert torch.equal(factor, factor.tril())
    values = torch.linalg.svdvals(factor[0]).square().numpy()
    np.testing.assert_allclose(values, [1.0, 1e-3, 1e-6, 1e-6], rtol=1e-9)


def test_a_factor_made_triangular_keeps_its_smallest_deviation():
    """1e-9 beside 1: its square is lost in the product, 1e-18 beside 1."""
    factor = torch.tensor([[1.0, 0.0], [1.0, 1e-9]])
    found = triangular(factor.flip(0)[None])[0]
    assert found[1, 1].item() == pytest.approx(1e-9, rel=1e-6)
    assert found[0, 1] == 0


def test_log_px_at_a_near_singular_covariance_is_that_of_scipy_with_holes_and_without():
    x = torch.randn(100, 2)
    x = torch.cat([x, x.sum(1, keepdim=True) + 1e-4 * torch.randn(100, 1)], 1)
    joint, _ = _fitted(x, 1, 3)
    likelihood = joint.likelihood
    mean, covariance = likelihood.means[0].detach().numpy(), likelihood.covariances()[0].detach().numpy()
    complete = multivariate_normal(mean, covariance, allow_singular=True).logpdf(x.numpy())
    np.testing.assert_allclose(expect(joint, x)[0], complete, atol=1e-4)
    np.testing.assert_allclose(exact_inference.log_marginal(joint, x).detach(), complete, atol=1e-4)
    some = x.clone()
    some[:, 0] = torch.nan
    marginal = multivariate_normal(mean[1:], covariance[1:, 1:]).logpdf(x[:, 1:].numpy())
    np.testing.assert_allclose(expect(joint, some)[0], marginal, atol=1e-9)
