"""EM by natural parameters: scikit-learn's numbers, whatever the stretch, and no rounding that can be felt."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from pieces import build
from sklearn.mixture import GaussianMixture

from taut.functional import em_sums
from taut.functional.gaussian import log_densities
from taut.model import exact_inference
from taut.objective.em import expect

pytestmark = pytest.mark.usefixtures("float64")
COVARIANCES = {"full": "full", "diagonal": "diag", "spherical": "spherical"}
covariances = pytest.mark.parametrize("covariance", COVARIANCES)


def _rows(n: int = 400, size: int = 4) -> torch.Tensor:
    """Overlapping clusters off the origin, correlated, in unlike units."""
    turn = torch.eye(size) + 0.4 * torch.randn(size, size)
    rows = torch.randn(n, size) @ turn + 3 * torch.randn(5, size)[torch.randint(5, (n,))]
    return (rows + 20) * torch.logspace(-1, 1, size)


def _mixture(covariance: str, x: torch.Tensor, components: int = 5):
    words = "model=mog", f"model.components={components}", f"likelihood.covariance={covariance}"
    joint, _, objective = build(*words, x_shape=(x.shape[1],))
    joint.likelihood.initialise(x)
    objective.optimizer(joint, joint.parameters(), torch.optim.SGD)
    return joint, objective


@covariances
def test_log_px_after_each_iteration_is_that_of_scikit_learn(covariance):
    """Floors of both out of reach. 10 iterations, so that rounding grows and no optimum hides what an M-step did."""
    x = _rows()
    joint, objective = _mixture(covariance, x)
    precisions = torch.linalg.inv(joint.likelihood.covariances()).detach()
    diagonal = precisions.diagonal(dim1=-2, dim2=-1)
    other = GaussianMixture(
        5,
        covariance_type=COVARIANCES[covariance],
        reg_covar=0,
        tol=0,
        max_iter=1,
        warm_start=True,
        weights_init=np.full(5, 0.2),
        means_init=joint.likelihood.means.detach().numpy(),
        precisions_init={"full": precisions, "diagonal": diagonal, "spherical": diagonal[:, 0]}[covariance].numpy(),
    )
    for _ in range(10):
        objective.expect(joint, x)
        objective.end_of_epoch()
        with pytest.warns(match="did not converge"):
            other.fit(x.numpy())
        found = expect(joint, x)[0]
        np.testing.assert_allclose(found, other.score_samples(x.numpy()), rtol=0, atol=1e-8)


@covariances
def test_sums_are_those_under_the_exact_posterior(covariance):
    x = _rows(100)
    joint, _ = _mixture(covariance, x)
    joint.prior.logits.data = torch.randn(5)
    log_px, sums = expect(joint, x)
    log_w = exact_inference.log_marginal(joint, x)
    torch.testing.assert_close(log_px, log_w, rtol=0, atol=1e-10)
    posterior = exact_inference.posterior(joint, x)
    expected = {**joint.likelihood.statistics(x, posterior), "counts": posterior.mean.sum(0)}
    assert sums["likelihood"].keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(sums["likelihood"][name], value.detach(), rtol=1e-9, atol=1e-8)
    torch.testing.assert_close(sums["prior"]["counts"], expected["counts"].detach())


def _gaussians(joint) -> em_sums.Gaussians:
    likelihood, full = joint.likelihood, joint.likelihood.covariance == "full"
    means, factors = likelihood.offsets, likelihood.factors()
    return em_sums.Gaussians(joint.prior().logits.detach(), means.detach(), factors.detach(), full)


def _flat(found: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    return [found[0], *found[1].values()]


@covariances
def test_stretches_of_any_length_give_the_same(covariance):
    x = _rows(101)
    joint, _ = _mixture(covariance, x)
    gaussians, rows = _gaussians(joint), joint.likelihood.units.inside(x)
    whole = em_sums.e_step(gaussians, rows)
    for length in (1, 7, 100):
        parts = em_sums.e_step(gaussians, rows, stretch=length * sum(gaussians.natural.shape))
        for one, other in zip(_flat(parts), _flat(whole), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-10)


def test_threads_share_the_rows_and_leave_torch_as_it_was():
    x = _rows(101)
    joint, _ = _mixture("full", x)
    gaussians, rows, before = _gaussians(joint), joint.likelihood.units.inside(x), torch.get_num_threads()
    alone = em_sums.e_step(gaussians, rows)
    torch.set_num_threads(3)
    try:
        shared = [em_sums.e_step(gaussians, rows, stretch=1000) for _ in range(2)]
        with ThreadPoolExecutor(1) as later:
            assert torch.get_num_threads() == later.submit(torch.get_num_threads).result() == 3
    finally:
        torch.set_num_threads(before)
    for first, second, one in zip(*map(_flat, shared), _flat(alone), strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, one, rtol=1e-11, atol=1e-10)


def _needle(x: torch.Tensor) -> torch.Tensor:
    """A few rows so close to each other, so far off, that the natural parameters of their cluster cancel."""
    close = x[:40].mean(0) + 50 * x.std(0) + 1e-3 * torch.randn(40, x.shape[1])
    return torch.cat([x, close])


def test_the_rounding_is_below_its_bound_and_a_narrow_component_is_scored_without_it():
    x = _needle(_rows())
    joint, _ = _mixture("full", x)
    needle = joint.likelihood.means[:, 0].argmax()
    joint.likelihood.offsets.data[needle] = (x[-40:].mean(0) - joint.likelihood.centre) / joint.likelihood.unit
    joint.likelihood.log_scales.data[needle] = (1e-3 / joint.likelihood.unit).log()
    gaussians, rows = _gaussians(joint), joint.likelihood.units.inside(x)
    features = rows.new_empty(gaussians.natural.shape[1], len(x))
    em_sums.fill(features, rows, full=True)
    exact = log_densities(rows, gaussians.means, gaussians.scale_tril).mT + gaussians.log_weights.unsqueeze(-1)
    weights = exact.softmax(0)
    error = ((gaussians.natural @ features - exact).abs() * weights).sum(1) / weights.sum(1)
    assert (error <= gaussians.rounding).all()
    assert error[needle] > em_sums.ROUNDING
    assert em_sums.Scorer.of(gaussians).rough.tolist() == [needle]
    torch.testing.assert_close(expect(joint, x)[0], exact_inference.log_marginal(joint, x).detach(), rtol=0, atol=1e-8)


def test_a_narrow_component_is_scored_as_well_as_its_numbers_are_known():
    """Against rational numbers. 1e-16 of 3 is 3e-10 of a deviation, felt times 2 x 5.7 of them: 4e-9 nats."""
    mean, x = torch.tensor([[3.0, -2.0]]), torch.tensor([[3.0 + 4e-6, -2.0 - 3e-6]])
    factor = torch.tensor([[[1e-6, 0.0], [0.5e-6, 1e-6]]])
    log_px, _ = em_sums.e_step(em_sums.Gaussians(torch.zeros(1), mean, factor, full=True), x)
    difference = [Fraction(a) - Fraction(b) for a, b in zip(x[0].tolist(), mean[0].tolist(), strict=True)]
    rows = [[Fraction(a) for a in row] for row in factor[0].tolist()]
    first = difference[0] / rows[0][0]
    second = (difference[1] - rows[1][0] * first) / rows[1][1]
    expected = -float(first**2 + second**2) / 2 - 2 * np.log(1e-6) - np.log(2 * np.pi)
    assert log_px.item() == pytest.approx(expected, abs=2e-8)


@covariances
def test_a_datum_far_from_every_component_has_the_density_it_has(covariance):
    """exp of its other terms is no normal number, or none at all."""
    x = torch.cat([_rows(), torch.full((1, 4), 3e4)])
    joint, _ = _mixture(covariance, x[:-1])
    torch.testing.assert_close(
        expect(joint, x)[0], exact_inference.log_marginal(joint, x).detach(), rtol=1e-10, atol=1e-8
    )


def test_a_column_in_the_millions_leaves_nothing_to_feel():
    """Means that are large beside the deviations, for every component: x is relative to the middle of the rows."""
    x = _rows() + 1e6
    joint, _ = _mixture("full", x)
    assert (_gaussians(joint).rounding < em_sums.ROUNDING).all()


def test_a_cluster_that_shrinks_to_the_floor_climbs():
    x = _needle(_rows())
    joint, objective = _mixture("full", x)
    trace = []
    for _ in range(60):
        trace.append(objective.expect(joint, x).sum().item())
        objective.end_of_epoch()
    assert (_gaussians(joint).rounding > em_sums.ROUNDING).any()
    assert min(np.diff(trace)) > -1e-9 * abs(trace[-1])


def test_single_precision_is_accumulated_in_double():
    """Its own rounding is all that is left of the difference: 1e-4 nats beside densities of -20."""
    x = _rows()
    joint, _ = _mixture("full", x)
    log_px, sums = expect(joint.float(), x.float())
    assert {value.dtype for piece in sums.values() for value in piece.values()} == {torch.float64}
    torch.testing.assert_close(
        log_px.double(), exact_inference.log_marginal(joint.double(), x).detach(), rtol=0, atol=1e-3
    )
