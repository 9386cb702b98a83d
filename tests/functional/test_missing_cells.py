"""Data with holes: hidden cells cannot be read, and every density of an x with holes is that of its observed cells."""

import itertools

import numpy as np
import pytest
import torch
from pieces import build
from scipy.stats import multivariate_normal
from torch.distributions import Normal

from taut.distributions.cells import Cells
from taut.errors import UserError
from taut.evidence import Target
from taut.functional.gaussian import Partial
from taut.functional.missing import apply_mask, observed, patterns
from taut.model import exact_inference
from taut.model.likelihood.component import Component

pytestmark = pytest.mark.usefixtures("float64")


def _spd(d: int) -> torch.Tensor:
    root = torch.randn(d, d)
    return root @ root.mT + 0.3 * torch.eye(d)


def test_hidden_values_are_gone_whatever_they_were():
    x, mask = torch.randn(1000, 7), torch.rand(1000, 7) < 0.5
    others = torch.tensor([0.0, 1e300, torch.inf, -torch.inf, torch.nan])[torch.randint(5, x.shape)]
    first, second = apply_mask(x, mask), apply_mask(torch.where(mask, x, others), mask)
    assert torch.equal(first.view(torch.int64), second.view(torch.int64))
    assert torch.equal(observed(first), mask)


@pytest.mark.parametrize("mask", [torch.ones(3, 2, dtype=torch.bool), torch.ones(2, 3), torch.full((2, 3), torch.nan)])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(UserError, match=r"The mask (has shape|holds)"):
        apply_mask(torch.randn(2, 3), mask)


def test_patterns_divide_the_data():
    x = apply_mask(torch.randn(50, 3), torch.rand(50, 3) < 0.5)
    found = list(patterns(x))
    assert sorted(torch.cat([one.rows.flatten() for one in found]).tolist()) == list(range(50))
    assert sum(len(one.rows) for one in found) == len(observed(x).unique(dim=0))
    for one in found:
        for rows, seen, hidden in zip(*one, strict=True):
            assert sorted(torch.cat([seen, hidden]).tolist()) == [0, 1, 2]
            assert observed(x[rows])[:, seen].all()
            assert not observed(x[rows])[:, hidden].any()


def test_masks_alike_share_a_batch_of_matrices(monkeypatch):
    """One matrix at a time where many masks of a few data each could share a call: tables are full of them."""
    x = apply_mask(torch.randn(4, 3), torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 0, 0]]) == 1)
    assert sorted(len(one.rows) for one in patterns(x)) == [1, 3]
    monkeypatch.setattr("taut.functional.missing.CELLS", 2 * 9)
    assert sorted(len(one.rows) for one in patterns(x)) == [1, 1, 2]


def test_cells_sum_the_densities_of_what_is_observed():
    loc, scale = torch.randn(4, 3, 5), torch.rand(4, 3, 5) + 0.1
    x, mask = torch.randn(3, 5), torch.rand(3, 5) < 0.6
    log_p = Cells(Normal(loc, scale), 1).log_prob(apply_mask(x, mask))
    assert torch.allclose(log_p, (Normal(loc, scale).log_prob(x) * mask).sum(-1), rtol=1e-14)


def test_gradients_are_finite_beside_holes():
    """0 * NaN is NaN: the holes must be filled before the density, not only masked after it."""
    loc = torch.randn(2, 3, 4, requires_grad=True)
    scale = torch.full((2, 3, 4), 1e-150, requires_grad=True)
    x = apply_mask(torch.randn(3, 4), torch.zeros(3, 4, dtype=torch.bool))
    Cells(Normal(loc, scale), 1).log_prob(x).sum().backward()
    assert (loc.grad == 0).all()
    assert (scale.grad == 0).all()


@pytest.mark.parametrize("grad", [False, True])
def test_pixels_with_and_without_a_graph_agree_on_holes(grad):
    joint, _, _ = build(x_shape=(1, 4, 4))
    x = (torch.rand(6, 1, 4, 4) < 0.4).to(torch.get_default_dtype())
    mask = torch.rand(6, 1, 4, 4) < 0.5
    with torch.set_grad_enabled(grad):
        p = joint.likelihood(torch.randn(3, 6, *joint.prior.z_shape))
        expected = (p.base_dist.log_prob(x) * mask).sum((-1, -2, -3))
        assert torch.allclose(p.log_prob(apply_mask(x, mask)), expected, rtol=1e-13)


def test_partial_gaussians_are_those_of_scipy():
    d, means, covariances = 5, torch.randn(3, 5), torch.stack([_spd(5) for _ in range(3)])
    x = torch.randn(4, d)
    seen, hidden = [1, 4], [0, 2, 3]
    (pattern,) = patterns(apply_mask(x, torch.tensor([i in seen for i in range(d)])))
    part = Partial.of(pattern, means, torch.linalg.cholesky(covariances))
    log_p, mean, factor = part.log_prob(x)[0], part.mean(x)[0], part.missing_factor[0]
    for c, (m, s) in enumerate(zip(means.numpy(), covariances.numpy(), strict=True)):
        marginal = multivariate_normal(m[seen], s[np.ix_(seen, seen)])
        assert np.allclose(log_p[:, c], marginal.logpdf(x[:, seen].numpy()), rtol=1e-12)
        gain = s[np.ix_(hidden, seen)] @ np.linalg.inv(s[np.ix_(seen, seen)])
        assert np.allclose(mean[:, c, hidden], m[hidden] + (x[:, seen].numpy() - m[seen]) @ gain.T, rtol=1e-10)
        spread = s[np.ix_(hidden, hidden)] - gain @ s[np.ix_(seen, hidden)]
        assert np.allclose((factor[c] @ factor[c].mT)[hidden][:, hidden], spread, rtol=1e-10)
        assert (factor[c][seen] == 0).all()
    assert torch.equal(mean[:, :, seen], x[:, None, seen].expand(-1, 3, -1))


def test_a_covariance_that_rounding_made_singular_still_predicts():
    """A column that is there twice, in a large unit: the other one is known."""
    x = torch.tensor([[3e6, torch.nan], [torch.nan, -2e6]])
    (pattern,) = patterns(x)
    part = Partial.of(pattern, torch.zeros(1, 2), 1e6 * torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]))
    found = torch.zeros(2, 2).index_put((pattern.rows[:, 0],), part.mean(x)[:, 0, 0])
    assert torch.allclose(found, torch.tensor([[3e6], [-2e6]]).expand(2, 2), rtol=1e-12)
    assert part.missing_factor.abs().max() < 1e6 * 1e-6


@pytest.mark.parametrize("covariance", ["full", "diagonal", "spherical"])
def test_a_mixture_of_gaussians_scores_observed_cells(covariance):
    joint, _, _ = build("model=mog", "model.components=3", f"likelihood.covariance={covariance}", x_shape=(4,))
    likelihood = joint.likelihood
    x = apply_mask(3 * torch.randn(20, 4), torch.rand(20, 4) < 0.5)
    log_p = exact_inference.log_marginal(joint, x).detach()
    means, covariances = likelihood.means.detach().numpy(), likelihood.covariances().detach().numpy()
    weights = joint.prior.probs.detach().numpy()
    for row, value in zip(x.numpy(), log_p, strict=True):
        seen = ~np.isnan(row)
        density = [
            multivariate_normal(m[seen], s[np.ix_(seen, seen)]).pdf(row[seen]) if seen.any() else 1.0
            for m, s in zip(means, covariances, strict=True)
        ]
        assert value.item() == pytest.approx(np.log(weights @ density), abs=1e-9)


@pytest.mark.parametrize("prior", ["normal", "mixture"])
def test_a_linear_gaussian_model_scores_observed_cells(prior):
    """Rows of W deleted, against a dense normal; and the exact posterior makes every log-weight log p(x_obs)."""
    words = ["model=ppca", f"prior={prior}", *(["prior.components=3", "objective=exact"] if prior == "mixture" else [])]
    joint, q, _ = build(*words, "latent_dim=2", x_shape=(5,))
    x = apply_mask(2 * torch.randn(30, 5), torch.rand(30, 5) < 0.6)
    log_p = exact_inference.log_marginal(joint, x).detach()
    weight, mean = joint.likelihood.weight.detach(), joint.likelihood.mean.detach()
    weights, means, covariances = (value.detach() for value in exact_inference._gaussians(joint.prior()))
    for row, value in zip(x, log_p, strict=True):
        seen = observed(row)
        w = weight[seen]
        density = 0.0
        for log_weight, m, s in zip(weights.log_softmax(0), means, covariances, strict=True):
            spread = w @ s @ w.mT + joint.likelihood.variance.detach() * torch.eye(int(seen.sum()))
            centre = (w @ m + mean[seen]).numpy()
            normal = multivariate_normal(centre, spread.numpy()).pdf(row[seen].numpy()) if seen.any() else 1.0
            density += log_weight.exp().item() * normal
        assert value.item() == pytest.approx(np.log(density), abs=1e-9)
    z = q(x).sample((4,))
    log_w = Target.of(joint, q).log_joint(x, z) - q(x).log_prob(z)
    assert torch.allclose(log_w, log_p.expand(4, -1), rtol=1e-10, atol=1e-10)


def test_a_mixture_of_bernoullis_scores_observed_cells_as_the_sum_over_completions():
    joint, _, _ = build("model=mog", "likelihood=bernoulli", "network.hidden=[]", "objective=exact", x_shape=(1, 2, 3))
    x = (torch.rand(5, 1, 2, 3) < 0.5).double()
    mask = torch.tensor([[[1, 0, 0], [0, 1, 0]]], dtype=torch.bool)
    fillings = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    complete = x.unsqueeze(1).repeat(1, 16, 1, 1, 1)
    complete[:, :, ~mask] = fillings
    every = exact_inference.log_marginal(joint, complete.flatten(0, 1)).unflatten(0, (5, 16)).logsumexp(1)
    assert torch.allclose(exact_inference.log_marginal(joint, apply_mask(x, mask)), every, rtol=0, atol=1e-10)


def test_expected_sums_with_holes_are_those_of_many_completions():
    """E-step of a mixture: sums over x completed by scipy's conditionals, plus their covariance."""
    torch.manual_seed(3)
    likelihood = Component((3,), 2)
    rows = torch.randn(40, 3) @ _spd(3)
    likelihood.initialise(rows)
    x = apply_mask(rows, torch.rand(40, 3) < 0.6)
    r = torch.rand(40, 2).softmax(1)
    posterior = torch.distributions.OneHotCategorical(probs=r)
    sums = likelihood.statistics(x, posterior)
    means, covariances = likelihood.means.detach().numpy(), likelihood.covariances().detach().numpy()
    factors, first, second = np.linalg.cholesky(covariances), np.zeros((2, 3)), np.zeros((2, 3, 3))
    for row, weight in zip(x.numpy(), r.numpy(), strict=True):
        o, h = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
        for c, (m, s) in enumerate(zip(means, covariances, strict=True)):
            gain = s[np.ix_(h, o)] @ np.linalg.inv(s[np.ix_(o, o)])
            complete, spread = row.copy(), np.zeros((3, 3))
            complete[h] = m[h] + gain @ (row[o] - m[o])
            spread[np.ix_(h, h)] = s[np.ix_(h, h)] - gain @ s[np.ix_(o, h)]
            complete = np.linalg.solve(factors[c], complete - m)
            spread = np.linalg.solve(factors[c], np.linalg.solve(factors[c], spread).T)
            first[c] += weight[c] * complete
            second[c] += weight[c] * (np.outer(complete, complete) + spread)
    assert np.allclose(sums["first"].detach(), first, rtol=1e-9)
    assert np.allclose(sums["second"].detach(), second, rtol=1e-9)


@pytest.mark.parametrize("x_shape", [(4,), (1, 2, 2)])
def test_a_masked_q_tells_a_zero_from_a_hole(x_shape):
    """Where a q that has never seen a hole takes it for a zero, or for the mean of a column."""
    x = torch.zeros(1, *x_shape)
    holes = x.flatten(1).index_fill(1, torch.tensor([2]), torch.nan).view_as(x)
    for name, differs in (("masked", True), ("diagonal", False)):
        _, q, _ = build(f"q={name}", "latent_dim=2", x_shape=x_shape)
        assert torch.equal(q(x).mean, q(holes).mean) is not differs
