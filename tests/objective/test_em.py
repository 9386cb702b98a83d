"""EM: monotone, at the published optimum, with a gap of zero."""

import numpy as np
import pytest
import torch
from pieces import build
from sklearn.mixture import GaussianMixture

from taut.completion import complete
from taut.functional import em_sums
from taut.functional.missing import apply_mask
from taut.functional.sampling import NoiseKeys
from taut.model import exact_inference
from taut.objective.em import Maximiser, expect

pytestmark = pytest.mark.usefixtures("float64")


def _fit(joint, objective, x, epochs: int, batch: int | None = None) -> list[float]:
    maximiser = objective.optimizer(joint, joint.parameters(), torch.optim.SGD)
    assert isinstance(maximiser, Maximiser)
    trace = []
    for _ in range(epochs):
        for rows in x.split(batch or len(x)):
            maximiser.step(lambda rows=rows: objective.expect(joint, rows))
        objective.end_of_epoch()
        trace.append(exact_inference.log_marginal(joint, x).sum().item())
    return trace


def _clusters(n: int = 300, size: int = 3) -> torch.Tensor:
    centres = torch.randn(4, size) * 4
    return centres[torch.randint(4, (n,))] + torch.randn(n, size) * torch.rand(size)


@pytest.mark.parametrize("covariance", ["spherical", "diagonal", "full", "tied"])
def test_every_step_of_full_batch_em_climbs(covariance):
    for seed in range(5):
        torch.manual_seed(seed)
        x = _clusters()
        joint, _, objective = build(
            "model=mog", "model.components=4", f"likelihood.covariance={covariance}", x_shape=(3,)
        )
        joint.likelihood.initialise(x)
        trace = [exact_inference.log_marginal(joint, x).sum().item(), *_fit(joint, objective, x, 30, batch=77)]
        assert min(np.diff(trace)) > -1e-9 * abs(trace[-1])


@pytest.mark.parametrize("covariance", ["spherical", "diagonal", "full", "tied"])
def test_em_from_the_same_start_ends_where_scikit_learn_does(trainings, covariance):
    x = _clusters()
    joint, _, objective = build("model=mog", "model.components=4", f"likelihood.covariance={covariance}", x_shape=(3,))
    joint.likelihood.initialise(x)
    precisions = torch.linalg.inv(joint.likelihood.covariances()).detach()
    start = {
        "full": precisions,
        "diagonal": precisions.diagonal(dim1=-2, dim2=-1),
        "spherical": precisions[:, 0, 0],
        "tied": precisions[0],
    }[covariance]
    other = GaussianMixture(
        4,
        covariance_type={"diagonal": "diag"}.get(covariance, covariance),
        reg_covar=0,
        tol=1e-12,
        max_iter=3000,
        weights_init=np.full(4, 0.25),
        means_init=joint.likelihood.means.detach().numpy(),
        precisions_init=start.numpy(),
    ).fit(x.numpy())
    trace = _fit(joint, objective, x, 600)
    assert trace[-1] / len(x) == pytest.approx(other.score(x.numpy()), abs=1e-6)


def test_one_row_twice_cannot_make_the_likelihood_unbounded():
    x = torch.cat([torch.zeros(50, 2), torch.randn(50, 2) + 20])
    joint, _, objective = build("model=mog", "model.components=2", "likelihood.min_variance=1e-3", x_shape=(2,))
    joint.likelihood.initialise(x)
    trace = _fit(joint, objective, x, 30)
    assert np.isfinite(trace[-1])
    assert torch.linalg.eigvalsh(joint.likelihood.covariances()).min().item() >= 1e-3 * (1 - 1e-9)


def test_em_of_ppca_reaches_the_closed_form_optimum():
    from sklearn.decomposition import PCA

    x = torch.randn(400, 2) @ torch.randn(2, 6) * 2 + torch.randn(400, 6) * 0.5 + 3
    joint, _, objective = build("model=ppca", "latent_dim=2", x_shape=(6,))
    joint.likelihood.initialise(x)
    trace = _fit(joint, objective, x, 500, batch=150)
    n = len(x)
    pca = PCA(2).fit(x.numpy())
    # scikit-learn divides the covariance by n - 1; the maximum of the likelihood divides by n
    spectrum = np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))[::-1]
    noise = spectrum[2:].mean()
    best = -0.5 * n * (6 * np.log(2 * np.pi) + np.log(spectrum[:2]).sum() + 4 * np.log(noise) + 6)
    assert trace[-1] == pytest.approx(best, abs=1e-6 * abs(best))
    assert trace[-1] / n == pytest.approx(pca.score(x.numpy()), abs=0.01)
    assert min(np.diff(trace)) > -1e-9 * abs(best)


def test_stepwise_em_comes_near_the_optimum_of_the_full_one():
    x = _clusters(2000)
    full, _, em = build("model=mog", "model.components=4", x_shape=(3,))
    full.likelihood.initialise(x)
    mini, _, stepwise = build("model=mog", "model.components=4", "objective.minibatch=true", x_shape=(3,))
    mini.load_state_dict(full.state_dict())
    best = _fit(full, em, x, 100)[-1]
    reached = _fit(mini, stepwise, x, 20, batch=100)[-1]
    assert abs(best - reached) / len(x) < 0.02


def test_sums_survive_a_checkpoint():
    x = _clusters()
    joint, _, _ = build("model=mog", "model.components=4", x_shape=(3,))
    joint.likelihood.initialise(x)
    whole = Maximiser(joint.parameters(), joint, None)
    log_px, sums = expect(joint, x)
    whole.observe(sums, log_px)
    first = Maximiser(joint.parameters(), joint, None)
    first.observe(*reversed(expect(joint, x[:100])))
    resumed = Maximiser(joint.parameters(), joint, None)
    resumed.load_state_dict(first.state_dict())
    resumed.observe(*reversed(expect(joint, x[100:])))
    assert resumed.evidence.rows == 300
    assert resumed.evidence.total == pytest.approx(log_px.sum().item(), rel=1e-12)
    for piece, sums in whole.sums.items():
        for name, value in sums.items():
            torch.testing.assert_close(resumed.sums[piece][name], value, rtol=1e-12, atol=1e-9)


def test_columns_of_unlike_units_do_not_blur_each_other():
    """Eigenvalues beside 1e12 are known to 1e-4, the variance of one column here; a single Gaussian has a formula."""
    x = torch.randn(300, 3) @ (torch.eye(3) + 0.3 * torch.randn(3, 3)) * torch.tensor([1, 1e-2, 1e6])
    joint, _, objective = build("model=mog", "model.components=1", x_shape=(3,))
    joint.likelihood.initialise(x)
    reached = _fit(joint, objective, x, 2)[-1] / 300
    log_det = np.log(x.numpy().std(0)).sum() * 2 + np.linalg.slogdet(np.corrcoef(x.T.numpy()))[1]
    assert reached == pytest.approx(-0.5 * (3 * np.log(2 * np.pi) + log_det + 3), rel=1e-9)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_a_column_that_is_there_twice_in_a_large_unit_is_no_failure(share):
    """Its covariance has an eigenvalue of 1e12 and one at the floor of 1e-6: singular, to rounding."""
    for seed in range(5):
        torch.manual_seed(seed)
        column = 1e6 * torch.randn(200, 2)
        x = torch.cat([column, column], 1)
        x = apply_mask(x, torch.rand(x.shape) >= share)
        joint, _, objective = build("model=mog", "model.components=1", x_shape=(4,))
        joint.likelihood.initialise(x)
        assert np.isfinite(_fit(joint, objective, x, 10)).all()
        stds = joint.likelihood.covariances().diagonal(dim1=-2, dim2=-1).sqrt()
        assert torch.allclose(stds, torch.tensor(1e6), rtol=0.3)


KINDS = {
    **{c: ["model=mog", "model.components=2", f"likelihood.covariance={c}"] for c in ("full", "diagonal", "spherical")},
    "ppca": ["model=ppca", "latent_dim=1"],
    "fa": ["model=fa", "latent_dim=1"],
}
kinds = pytest.mark.parametrize("kind", KINDS)


def _with_holes(n: int = 80) -> torch.Tensor:
    """Two clusters with half of the cells missing: rows with nothing, with all, and with some observed."""
    x = torch.randn(n, 3) @ torch.randn(3, 3) + 6 * torch.randint(2, (n, 1))
    return apply_mask(x, torch.rand(n, 3) < torch.rand(n, 1) * 1.4 - 0.1)


@kinds
def test_every_step_of_em_with_holes_climbs(trainings, kind):
    for seed in range(2):
        torch.manual_seed(seed)
        x = _with_holes()
        assert {0, 3} < set((~x.isnan()).sum(1).tolist())
        joint, _, objective = build(*KINDS[kind], x_shape=(3,))
        joint.likelihood.initialise(x)
        trace = [exact_inference.log_marginal(joint, x).sum().item(), *_fit(joint, objective, x, 12, batch=33)]
        assert min(np.diff(trace)) > -1e-9 * abs(trace[-1])
        assert trace[-1] > trace[0] + 1


@kinds
def test_em_with_holes_ends_where_the_observed_likelihood_is_flat(trainings, kind):
    """By Fisher's identity the fixed point of EM is a stationary point; the gradient is by autograd through log p."""
    x = _with_holes()
    joint, _, objective = build(*KINDS[kind], x_shape=(3,))
    joint.likelihood.initialise(x)
    objective.optimizer(joint, joint.parameters(), torch.optim.SGD)
    for _ in range(2500 if kind == "fa" else 200):  # EM of factor analysis is slow where a column has little noise left
        objective.expect(joint, x)
        objective.end_of_epoch()
    exact_inference.log_marginal(joint, x).mean().backward()
    for name, parameter in joint.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() < 1e-6, name


@kinds
def test_em_with_nothing_missing_is_the_complete_one(kind):
    """One datum without an observed cell says nothing, so that the way of the holes meets complete data."""
    x = _clusters(100, 4)
    joints = [build(*KINDS[kind], x_shape=(4,)) for _ in range(2)]
    joints[0][0].likelihood.initialise(x)
    joints[1][0].load_state_dict(joints[0][0].state_dict())
    z = joints[0][1](x)
    nothing = apply_mask(x, torch.ones(100, 4, dtype=torch.bool))
    sums = [joints[0][0].likelihood.statistics(some, z) for some in (x, nothing)]
    assert all(torch.equal(sums[0][name], value) for name, value in sums[1].items())
    if kind in ("ppca", "fa"):
        beside = torch.cat([x, torch.full((1, 4), torch.nan)])
        joints[1][0].likelihood.maximise(joints[1][0].likelihood.statistics(beside, joints[1][1](beside)))
    else:
        own = joints[1][0].likelihood
        rows, factors = own.units.inside(x), own.factors().detach()
        own.maximise(own._shaped(em_sums.of_incomplete_rows(rows, z.mean, own.offsets.detach(), factors)))
    joints[0][0].likelihood.maximise(joints[0][0].likelihood.statistics(x, z))
    for one, other in zip(joints[0][0].likelihood.parameters(), joints[1][0].likelihood.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("words", [["model=mog", "model.components=1"], ["model=ppca", "latent_dim=1"]])
def test_the_plane_of_which_half_of_the_first_coordinate_is_missing(words):
    """x ~ N(0, [[2, 1], [1, 2]]): -2.5764 nats for each row, and a squared error of 1.5 by x_2 / 2 (Mattei's toy).

    The entropies are log(2 pi e) + log(3) / 2 and log(4 pi e) / 2. With n = 4000 the mean over the sample has a
    standard error below 0.02 nats. The error of a + b x_2 is 2 - 2 b + 2 b^2 + a^2 over all x, free of sampling.
    """
    n = 4000
    x = torch.randn(n, 2) @ torch.linalg.cholesky(torch.tensor([[2.0, 1.0], [1.0, 2.0]])).mT
    x[:, 0] = x[:, 0].masked_fill(torch.rand(n) < 0.5, torch.nan)
    joint, q, objective = build(*words, x_shape=(2,))
    joint.likelihood.initialise(x)
    per_row = _fit(joint, objective, x, 30)[-1] / n
    expected = -(np.log(2 * np.pi * np.e) + np.log(3) / 2 + np.log(4 * np.pi * np.e) / 2) / 2
    assert expected == pytest.approx(-2.5764, abs=1e-4)
    assert per_row == pytest.approx(expected, abs=0.05)
    ends = torch.tensor([[torch.nan, 0.0], [torch.nan, 1.0]])
    a, c = complete(joint, lambda rows: q(ends[rows]), ends, NoiseKeys(torch.arange(2), 0, "x")).mean[:, 0].tolist()
    assert 2 - 2 * (c - a) + 2 * (c - a) ** 2 + a**2 <= 1.51


def test_a_coordinate_that_a_batch_does_not_observe_keeps_its_values():
    """Stepwise EM of rows that never show it; the others are those of a model without it."""
    x = _clusters(60, 3)
    joint, q, _ = build("model=ppca", "latent_dim=1", "objective.minibatch=true", x_shape=(3,))
    joint.likelihood.initialise(x)
    before = joint.likelihood.weight.detach().clone()
    some = apply_mask(x, torch.tensor([True, False, True]))
    joint.likelihood.maximise(joint.likelihood.statistics(some, q(some)))
    assert joint.likelihood.weight[1] == before[1]
    assert joint.likelihood.mean[1] == joint.likelihood.centre[1]
    assert (joint.likelihood.weight != before)[[0, 2]].all()
    assert all(value.isfinite().all() for value in joint.state_dict().values())
