"""Probabilistic PCA and factor analysis in any unit, on any offset: exact values, EM, and the maximum."""

import mpmath
import numpy as np
import pytest
import torch
from pieces import build
from scipy.stats import multivariate_normal
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.decomposition import PCA, FactorAnalysis

from taut.functional.bounds import elbo
from taut.functional.missing import apply_mask
from taut.model import exact_inference
from taut.model.draws import draw
from taut.model.joint import Joint
from taut.model.likelihood.factor import Factor
from taut.model.likelihood.linear import Linear
from taut.model.likelihood.linear_gaussian import LinearGaussian, column_deviation
from taut.model.prior.mixture import Mixture
from taut.model.prior.normal import Normal
from taut.model.q.exact import Exact
from taut.objective.em import Em

pytestmark = pytest.mark.usefixtures("float64")
KINDS = {"linear": Linear, "factor": Factor}
kinds = pytest.mark.parametrize("kind", KINDS)


def _joint(kind: str, size: int, latent: int, **settings) -> Joint:
    return Joint(Normal(latent), KINDS[kind]((size,), latent, **settings))


def _started(kind: str, x: torch.Tensor, latent: int, **settings) -> Joint:
    """The model as ``objective=em`` starts it."""
    joint = _joint(kind, x.shape[1], latent, **settings)
    joint.likelihood.initialise(x)
    joint.likelihood.start_em(x)
    return joint


def _mean_log_p(joint: Joint, x: torch.Tensor) -> float:
    return exact_inference.log_marginal(joint, x).mean().item()


# --- the value, against 60 digits ---


def _matrix(values: torch.Tensor) -> mpmath.matrix:
    return mpmath.matrix(values.detach().double().tolist())


def _dense_log_p(likelihood: LinearGaussian, x: torch.Tensor, means: torch.Tensor, stds: torch.Tensor, weights):
    r"""$\log \sum_c \pi_c N(x_o; W m_c + \mu, W C_c W^\top + \Psi)$ of one datum, by mpmath from the parameters."""
    with mpmath.workdps(60):
        unit, centre = (_matrix(value.unsqueeze(1)) for value in (likelihood.unit, likelihood.centre))
        a, offset = _matrix(likelihood.loadings), _matrix(likelihood.offset.unsqueeze(1))
        g = likelihood.log_variance.expand(len(unit)).tolist()
        floor, seen = mpmath.mpf(likelihood.min_variance), [j for j, cell in enumerate(x.tolist()) if cell == cell]
        total = mpmath.mpf(0)
        for c, weight in enumerate(weights.tolist()):
            covariance, residual = mpmath.matrix(len(seen)), mpmath.matrix(len(seen), 1)
            for p, i in enumerate(seen):
                mean = centre[i] + unit[i] * (offset[i] + sum(a[i, k] * means[c, k].item() for k in range(a.cols)))
                residual[p] = mpmath.mpf(x[i].item()) - mean
                for q, j in enumerate(seen):
                    inner = sum(a[i, k] * a[j, k] * mpmath.mpf(stds[c, k].item()) ** 2 for k in range(a.cols))
                    noise = floor + mpmath.exp(g[i]) if i == j else 0
                    covariance[p, q] = unit[i] * unit[j] * (inner + noise)
            quadratic = (residual.T * mpmath.lu_solve(covariance, residual))[0] if seen else 0
            log_det = mpmath.log(mpmath.det(covariance)) if seen else 0
            total += weight * mpmath.exp(-(quadratic + log_det + len(seen) * mpmath.log(2 * mpmath.pi)) / 2)
        return float(mpmath.log(total))


SCALES = {
    "unit": (1.0, 1.0, 1.0, 0.0),
    "small x": (1e-8, 1.0, 1.0, 0.0),
    "large x": (1e8, 1.0, 1.0, 0.0),
    "small W": (1.0, 1e-8, 1.0, 0.0),
    "large W": (1.0, 1e8, 1.0, 0.0),
    "little noise": (1.0, 1.0, 1e-8, 0.0),
    "much noise": (1.0, 1.0, 1e8, 0.0),
    "large and little": (1.0, 1e4, 1e-4, 0.0),
    "offset": (1.0, 1.0, 1.0, 1e9),
    "small x on an offset": (1e-2, 1.0, 1e-2, 1e9),
}
"""Scales of the units, of W and of the noise, and an offset."""


@pytest.mark.parametrize("prior", ["normal", "mixture"])
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("name", SCALES)
@kinds
def test_log_p_and_the_elbo_under_the_posterior_are_those_of_60_digits(kind, name, missing, prior):
    """Subtracted large numbers, inverted twice, or an offset lost: 5.18 nats on a table of incomes.

    Where W is 1e8 times the noise, x and z are known to 1e-8 deviations, and log p to some 1e-7 nats.
    """
    unit, scale, noise, offset = SCALES[name]
    joint = _joint(kind, 5, 2, min_variance=1e-30)
    if prior == "mixture":
        joint.prior = Mixture(2, 3)
        with torch.no_grad():
            joint.prior.log_scales.copy_(torch.tensor([[0.0, 0.0], [-3.0, 0.0], [-9.0, -18.0]]))
    likelihood = joint.likelihood
    with torch.no_grad():
        likelihood.loadings[:, 1] = likelihood.loadings[:, 0] if name == "large W" else likelihood.loadings[:, 1]
        likelihood.loadings.mul_(scale)
        likelihood.loadings[4] = likelihood.loadings[3]  # a column that is there twice
        likelihood.log_variance.normal_(std=0.3).add_(2 * np.log(noise))
        likelihood.unit.fill_(unit)
        likelihood.centre.copy_(offset * torch.tensor([1.0, -1, 0.3, 1, 1]))
        likelihood.offset.normal_()
    x = joint.sample(6)[1]
    if missing:
        x = apply_mask(x, torch.rand(x.shape) < torch.tensor([0, 0.5, 0.5, 0.7, 0.7, 0.9]).unsqueeze(1))
    p = joint.prior()
    if prior == "mixture":
        parts, weights = p.component_distribution, p.mixture_distribution.probs.detach()
        means, stds = parts.mean.detach(), parts.stddev.detach()
    else:
        means, stds, weights = torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1)
    truth = torch.tensor([_dense_log_p(likelihood, row, means, stds, weights) for row in x])
    log_p = exact_inference.log_marginal(joint, x)
    torch.testing.assert_close(log_p.detach(), truth, rtol=0, atol=1e-6)
    log_w = draw(joint, Exact(joint, (5,)), x, 50).log_w.detach()
    torch.testing.assert_close(elbo(log_w), truth, rtol=0, atol=1e-6)


@kinds
@pytest.mark.parametrize("missing", [False, True])
def test_log_p_and_posterior_are_scipy_s(kind, missing):
    """The parameters as the model gives them in units of x: W, the mean and the variances."""
    joint = _started(kind, torch.randn(50, 2) @ torch.randn(2, 4) + torch.randn(50, 4) * torch.rand(4) + 3, 2)
    w, mu = joint.likelihood.weight.detach().numpy(), joint.likelihood.mean.detach().numpy()
    noise = joint.likelihood.variance.detach().numpy() * np.eye(4)
    x = torch.randn(9, 4) + 3
    x = apply_mask(x, torch.rand(9, 4) < 0.6) if missing else x
    log_p, posterior = exact_inference.log_marginal_and_posterior(joint, x)
    for i, row in enumerate(x.numpy()):
        o = ~np.isnan(row)
        cov = (w @ w.T + noise)[np.ix_(o, o)]
        gain = w[o].T @ np.linalg.inv(cov)
        expected = multivariate_normal(mu[o], cov).logpdf(row[o]) if o.any() else 0.0
        assert log_p[i].item() == pytest.approx(expected, abs=1e-10)
        np.testing.assert_allclose(posterior.mean[i].detach(), gain @ (row[o] - mu[o]), atol=1e-10)
        np.testing.assert_allclose(posterior.covariance_matrix[i].detach(), np.eye(2) - gain @ w[o], atol=1e-10)


@kinds
def test_a_float32_model_loses_no_offset(kind):
    """Its buffers and its arithmetic are in float64: an offset of 1e9 leaves log p as it was."""
    x = torch.randn(40, 2) @ torch.randn(2, 4) + torch.randn(40, 4)
    x = (x * 2**20).round() / 2**20  # so that x + 1e9 holds them to 1e-7
    found = []
    torch.set_default_dtype(torch.float32)
    for offset in (0.0, 1e9):
        joint = _joint(kind, 4, 2)
        joint.likelihood.initialise(x + offset)
        torch.testing.assert_close(joint.likelihood.mean.detach(), (x + offset).mean(0), rtol=0, atol=1e-6)
        joint.likelihood.start_em(x + offset)
        assert joint.likelihood.loadings.dtype == torch.float32
        log_p, posterior = exact_inference.log_marginal_and_posterior(joint, x + offset)
        z = posterior.sample((3,))
        assert log_p.dtype == z.dtype == torch.float64
        log_w = joint.log_prob(x + offset, z) - posterior.log_prob(z)
        torch.testing.assert_close(log_w, log_p.expand(3, -1), rtol=0, atol=1e-6)
        found.append(log_p.detach())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-4)  # of float32 parameters


# --- units ---


@kinds
@pytest.mark.parametrize("missing", [False, True])
def test_a_unit_moves_log_p_by_its_logarithm(kind, missing):
    """A floor in squared units of x, or a start that depends on them; a unit for each column under factor analysis."""
    x = torch.randn(60, 2) @ torch.randn(2, 5) + torch.randn(60, 5) * torch.rand(5)
    x = apply_mask(x, torch.rand(x.shape) < 0.8) if missing else x
    for exponent in (-27.0, 27.0):  # of 2, or 1e-8 and 1e8: the rows are the same but for their unit, to the last bit
        units = 2 ** torch.full((5,), exponent)
        if kind == "factor":
            units = 2 ** torch.tensor([exponent, 0, -exponent, 5, exponent])
        traces = [_trace(_started(kind, rows, 2), rows, 5) for rows in (x, x * units)]
        moved = ((~x.isnan()) * units.log()).sum().item()
        np.testing.assert_allclose(np.array(traces[1]) + moved, traces[0], rtol=1e-9)


# --- EM ---


def _trace(joint: Joint, x: torch.Tensor, epochs: int, batch: int = 60) -> list[float]:
    """The sum of log p before EM and after each of so many iterations, as the E-step that follows has it."""
    em = Em()
    maximiser = em.optimizer(joint, joint.parameters(), torch.optim.SGD)
    trace = []
    for _ in range(epochs):
        parts = [maximiser.step(lambda rows=rows: em.expect(joint, rows)) for rows in x.split(batch)]
        trace.append(torch.cat(parts).sum().item())
        em.end_of_epoch()
    return [*trace, exact_inference.log_marginal(joint, x).sum().item()]


def _plane(n: int = 100, size: int = 4) -> torch.Tensor:
    return torch.randn(n, 2) @ torch.randn(2, size) + torch.randn(n, size) * (0.1 + torch.rand(size))


TABLES = {
    "scale 1e-8": lambda: _plane() * 1e-8,
    "scale 1e8": lambda: _plane() * 1e8,
    "unlike scales": lambda: _plane() * torch.tensor([1e-8, 1.0, 1e4, 1e8]),
    "offset 1e9": lambda: _plane() + 1e9,
    "offsets": lambda: _plane() * torch.tensor([1e-2, 1, 1, 1e3]) + torch.tensor([1e6, 1e9, 0, -1e9]),
    "a column twice": lambda: _plane()[:, [0, 1, 2, 1]],
    "every column twice": lambda: _plane(size=2)[:, [0, 1, 0, 1]],
    "collinear": lambda: torch.randn(100, 1) * torch.tensor([1e5, 4e4, -1.0, 1e-3]) + torch.tensor([3e5, 0, 3e5, 1]),
    "parts and their total": lambda: (lambda x: torch.cat([x, x.sum(1, keepdim=True)], 1))(_plane(size=3) * 1e3 + 1e5),
    "a constant column": lambda: _plane() * torch.tensor([1.0, 1, 1, 0]) + 0.1,
    "fewer rows than columns": lambda: _plane(5, 8),
}


@pytest.mark.parametrize("start", ["maximum", "random"])
@pytest.mark.parametrize("missing", [False, True], ids=["complete", "missing"])
@pytest.mark.parametrize("table", TABLES)
@kinds
def test_log_p_never_falls_in_em(kind, table, missing, start):
    """Beyond 1e-9 of its size: sums of x x' lose what the noise is, and a Cholesky factor of them fails."""
    x = TABLES[table]()
    x = apply_mask(x, torch.rand(x.shape) < 0.7) if missing else x
    if missing:
        x = x[:, (~x.isnan()).any(0)]
    joint = _started(kind, x, 2)
    if start == "random":
        joint = _joint(kind, x.shape[1], 2)
        joint.likelihood.initialise(x)
    trace = np.array(_trace(joint, x, 15))
    assert np.isfinite(trace).all()
    size = max(np.abs(trace).max(), x.numel())
    assert np.diff(trace).min() > -1e-9 * size
    if start == "random":
        assert trace[-1] > trace[0]


@kinds
@pytest.mark.parametrize("missing", [False, True])
def test_the_sums_that_an_m_step_leaves_are_those_of_the_new_parameters(kind, missing):
    """Stepwise EM blends them with sums of later batches, which are of e = x - mu - W z under the new ones."""
    x = _plane(60)
    x = apply_mask(x, torch.rand(60, 4) < 0.7) if missing else x
    joint = _joint(kind, 4, 2)
    likelihood = joint.likelihood
    likelihood.initialise(x)
    posterior = exact_inference.posterior(joint, x)
    sums = likelihood.statistics(x, posterior)
    likelihood.maximise(sums)
    variance = likelihood.variance.detach().clone()
    for name, value in likelihood.statistics(x, posterior).items():
        torch.testing.assert_close(sums[name].expand_as(value), value, rtol=1e-9, atol=1e-9)
    likelihood.maximise(sums)
    torch.testing.assert_close(likelihood.variance.detach(), variance, rtol=1e-12, atol=0)


@kinds
def test_em_from_a_random_start_ends_at_the_maximum(kind):
    """500 iterations where the maximum is plain: closed form for PCA, scikit-learn for factor analysis."""
    x = torch.randn(300, 2) @ torch.randn(2, 6) * 2 + torch.randn(300, 6) * 0.7 + 3
    joint = _joint(kind, 6, 2)
    joint.likelihood.initialise(x)
    reached = _trace(joint, x, 500, batch=300)[-1] / 300
    witness = _tipping_bishop(x.numpy(), 2) if kind == "linear" else _scikit_learn(x.numpy(), 2)
    assert reached == pytest.approx(witness, abs=1e-6)


# --- the maximum ---


def _tipping_bishop(x: np.ndarray, d: int) -> float:
    """Mean log p at the maximum, from the eigenvalues of the covariance."""
    n, size = x.shape
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2 / n
    noise = values[d:].sum() / (size - d)
    return -0.5 * (size * np.log(2 * np.pi) + np.log(values[:d]).sum() + (size - d) * np.log(noise) + size)


def _scikit_learn(x: np.ndarray, d: int) -> float:
    return FactorAnalysis(d, tol=1e-10, max_iter=5000, svd_method="lapack").fit(x).score(x)


def test_pca_of_raw_wine_starts_at_the_closed_form_and_stays():
    """0.129 nats below after 4,000 iterations from a random start: proline varies by 1e5, hue by 0.05."""
    x = load_wine().data
    joint = _started("linear", torch.from_numpy(x), 3)
    best = _tipping_bishop(x, 3)
    assert _mean_log_p(joint, torch.from_numpy(x)) == pytest.approx(best, abs=1e-9)
    trace = np.array(_trace(joint, torch.from_numpy(x), 10)) / len(x)
    assert np.abs(trace - best).max() < 1e-9
    # scikit-learn divides the covariance by n - 1, so its score is a little less, by D / (4 n^2) and less
    assert PCA(3).fit(x).score(x) == pytest.approx(best, abs=13 / (4 * (len(x) - 1) ** 2) + 1e-9)


def test_factor_analysis_of_breast_cancer_is_scikit_learn_s():
    """-23.55 nats, where PCA has -31.68: every column has its own noise."""
    x = load_breast_cancer().data
    x = (x - x.mean(0)) / x.std(0)
    rows = torch.from_numpy(x)
    fa, pca = _started("factor", rows, 2), _started("linear", rows, 2)
    assert _mean_log_p(fa, rows) == pytest.approx(_scikit_learn(x, 2), abs=1e-6)
    assert _mean_log_p(fa, rows) == pytest.approx(-23.55, abs=0.005)
    assert _mean_log_p(pca, rows) == pytest.approx(-31.68, abs=0.005)
    trace = _trace(fa, rows, 10)
    assert trace[-1] - trace[0] < 1e-4 * len(x)


@pytest.mark.filterwarnings("ignore:FactorAnalysis did not converge")
def test_factor_analysis_where_a_noise_vanishes_is_no_worse_than_scikit_learn(trainings):
    """A Heywood case, in which 1,000 iterations of scikit-learn's are 0.004 nats short."""
    x = load_breast_cancer().data
    x = (x - x.mean(0)) / x.std(0)
    reached = _mean_log_p(_started("factor", torch.from_numpy(x), 5), torch.from_numpy(x))
    assert reached > FactorAnalysis(5, tol=1e-8, max_iter=1000, svd_method="lapack").fit(x).score(x)


@pytest.mark.parametrize("d", [3, 4, 7])
def test_as_many_latents_as_columns_are_the_gaussian_of_the_rows(d):
    """With d >= D - 1 the model is any Gaussian, and its maximum that of the sample covariance."""
    x = _plane(80)
    cov = np.cov(x.T.numpy(), bias=True)
    best = -0.5 * (4 * np.log(2 * np.pi) + np.linalg.slogdet(cov)[1] + 4)
    for kind in KINDS:
        joint = _started(kind, x, d)
        assert _mean_log_p(joint, x) == pytest.approx(best, abs=1e-8)
        assert min(np.diff(_trace(joint, x, 3))) > -1e-9 * 400
        assert joint.likelihood.degrees_of_freedom == 4 + 4 * 5 // 2


# --- floors ---


def test_a_floor_that_binds_is_said():
    """log p of collinear columns hangs on the floor: one that binds in silence is a number of no meaning."""
    x = _plane(300, 6)
    for kind in KINDS:
        assert _started(kind, x, 2).likelihood.limits(torch.zeros(1, 1, 2)) == []
    collinear = torch.cat([x[:, :1], 3e4 * x[:, :1] - 7, 2 * x[:, :1]], 1)
    (sentence,) = _started("linear", collinear, 1).likelihood.limits(torch.zeros(1, 1, 1))
    assert sentence.startswith("The noise variance of all columns is at its floor, likelihood.min_variance=1e-14 times")
    constant = torch.cat([x, torch.full((300, 1), 0.1)], 1)
    (sentence,) = _started("factor", constant, 2).likelihood.limits(torch.zeros(1, 1, 2))
    assert sentence.startswith("The noise variance of 1 of 7 columns is at its floor")


@kinds
def test_the_floor_is_a_fraction_of_the_variance_of_the_rows(kind):
    """In the units of x it would be anything: here 1e-3 of variances 1e10, and of their mean under one noise."""
    scale = torch.tensor([1.0, 1e5])
    x = torch.randn(200, 1) * scale
    joint = _started(kind, x, 1, min_variance=1e-3)
    variances = x.var(0, correction=0)
    floor = 1e-3 * (variances.mean() if kind == "linear" else variances)
    torch.testing.assert_close(joint.likelihood.variance.detach(), floor, rtol=1e-9, atol=0)


def test_equal_cells_have_no_deviation_whatever_their_mean_rounds_to():
    x = torch.full((10, 3), 0.1)
    x[:, 1] = torch.arange(10) * 1e200
    x[3:, 2] = torch.nan
    std = column_deviation(x)
    assert std[0] == std[2] == 0
    assert std[1].item() == pytest.approx(np.arange(10).std() * 1e200, rel=1e-12)


@pytest.mark.parametrize(("kind", "own"), [("linear", 1), ("factor", 6)])
def test_degrees_of_freedom_do_not_count_rotations(kind, own):
    """d D - d (d - 1) / 2 + D + 1, or 2 D: as many as the map from parameters to N(mu, Sigma) has dimensions."""
    joint = _joint(kind, 6, 2)
    likelihood = joint.likelihood

    def gaussian(loadings, offset, log_variance):
        covariance = loadings @ loadings.mT + torch.diag_embed(log_variance.exp().expand(6))
        return torch.cat([offset, covariance.flatten()])

    values = tuple(p.detach() for p in (likelihood.loadings, likelihood.offset, likelihood.log_variance))
    jacobian = torch.autograd.functional.jacobian(gaussian, values)
    rank = torch.linalg.matrix_rank(torch.cat([part.flatten(1) for part in jacobian], 1))
    assert likelihood.degrees_of_freedom == rank.item() == 2 * 6 - 1 + 6 + own


# --- where it starts ---


def test_gradient_methods_start_elsewhere():
    """``experiment=linear_vae`` is there to be seen climbing; a mixture prior has no closed form."""
    x = _plane()
    for words in (["q=full", "objective=elbo"], ["objective=exact"]):
        joint, _, objective = build("model=ppca", "latent_dim=2", *words, x_shape=(4,))
        joint.likelihood.initialise(x)
        objective.initialise(joint, x)
        assert _mean_log_p(joint, x) < _tipping_bishop(x.numpy(), 2) - 0.1


@kinds
def test_em_with_missing_cells_starts_above_a_random_start(kind):
    x = apply_mask(_plane(200), torch.rand(200, 4) < 0.8)
    random = _joint(kind, 4, 2)
    random.likelihood.initialise(x)
    assert _mean_log_p(_started(kind, x, 2), x) > _mean_log_p(random, x) + 0.1
