"""Bounds as functions of log-weights: special cases, order, closed forms."""

import numpy as np
import pytest
import torch
from budget import assert_mean
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import digamma, logsumexp

from taut.functional import bounds

weights = arrays(np.float64, (12, 3), elements=st.one_of(st.floats(-1e4, 1e4), st.just(-np.inf), st.just(0.0)))


@given(weights)
@settings(max_examples=300, deadline=None)
def test_log_mean_exp_equals_scipy(log_w):
    expected = logsumexp(log_w, axis=0) - np.log(12)
    np.testing.assert_allclose(bounds.iwae(torch.tensor(log_w)).numpy(), expected, rtol=1e-12, atol=1e-12)


@given(weights)
@settings(max_examples=300, deadline=None)
def test_block_bounds_never_decrease_where_blocks_nest(log_w):
    log_w = torch.tensor(log_w)
    for chain in ((1, 2, 4, 12), (1, 3, 6, 12)):
        values = torch.stack([bounds.block_bound(log_w, k) for k in chain])
        lower, upper = values[:-1], values[1:]
        assert bool((lower <= upper + 1e-12 * upper.abs().clamp_min(1)).where(upper > -torch.inf, lower <= upper).all())


@given(weights)
@settings(max_examples=200, deadline=None)
def test_renyi_bounds_fall_from_iwae_to_elbo_and_equal_scipy(log_w):
    alphas = (-2.0, -0.5, 0.0, 0.3, 0.9, 1 - 1e-9)
    values = np.stack([bounds.variational_renyi(torch.tensor(log_w), alpha).numpy() for alpha in (*alphas, 1)])
    for alpha, value in zip(alphas[:-1], values, strict=False):
        expected = (logsumexp((1 - alpha) * log_w, axis=0) - np.log(12)) / (1 - alpha)
        np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-12)
    above = np.nan_to_num(values[:-1], neginf=-1e300)
    assert (values[1:] <= above + 1e-10 * np.maximum(np.abs(above), 1)).all()


def test_renyi_bounds_near_the_elbo_are_no_rounding():
    """For s = 1 - alpha small, log mean exp(s l) / s = mean l + s var l / 2 + O(s^2)."""
    log_w = torch.randn(50, 3, dtype=torch.float64) * 3
    for s in (1e-6, 1e-9, 1e-12):
        excess = bounds.variational_renyi(log_w, 1 - s) - log_w.mean(0)
        torch.testing.assert_close(excess, s * log_w.var(0, correction=0) / 2, rtol=0, atol=1e-13 + 50 * s**2)


@given(weights)
@settings(max_examples=200, deadline=None)
def test_thermodynamic_sums_hold_iwae_between_them(log_w):
    log_w = torch.tensor(log_w)
    iwae, scale = bounds.iwae(log_w), 1e-12 * log_w[log_w.isfinite()].abs().sum().clamp_min(1)
    for path in ([0.0, 1.0], [0.0, 0.1, 1.0], [0.0, 0.01, 0.1, 0.3, 1.0]):
        left, right = (bounds.thermodynamic_sum(log_w, path, right=side) for side in (False, True))
        assert (left <= iwae + scale).all()
        assert (right >= iwae - scale).all()
        assert (left >= bounds.elbo(log_w) - scale).all()


def test_thermodynamic_sums_of_many_pieces_are_their_integral():
    """Each is off by half a piece times what the integrand rises by, with opposite signs."""
    log_w = torch.randn(20, 4, dtype=torch.float64) * 4
    assert torch.equal(bounds.thermodynamic_sum(log_w, [0.0, 1.0]), bounds.elbo(log_w))
    path = [i / 1000 for i in range(1001)]
    left, right = (bounds.thermodynamic_sum(log_w, path, right=side) for side in (False, True))
    torch.testing.assert_close((left + right) / 2, bounds.iwae(log_w), rtol=0, atol=1e-4)
    assert (right - left).max() < 0.02


def test_zero_weights_give_further_bounds_no_gradient_that_is_none():
    log_w = torch.full((3, 2), -torch.inf, dtype=torch.float64)
    log_w[0, 0] = 1.0
    log_w.requires_grad_()
    for value in (
        bounds.variational_renyi(log_w, 0.5),
        bounds.thermodynamic_sum(log_w, [0.0, 0.5, 1.0], right=True),
    ):
        assert value.isfinite().tolist() == [True, False]
        (gradient,) = torch.autograd.grad(value[0], log_w, retain_graph=True)
        assert gradient.isfinite().all()
        (dead,) = torch.autograd.grad(value[1], log_w)
        assert torch.equal(dead, torch.zeros_like(dead))


def test_elbo_is_the_bound_at_one_sample_and_the_first_block():
    log_w = torch.randn(1, 5, dtype=torch.float64)
    assert torch.equal(bounds.elbo(log_w), bounds.iwae(log_w))
    log_w = torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(bounds.block_bound(log_w, 1), bounds.elbo(log_w))
    torch.testing.assert_close(bounds.block_bound(log_w, 6), bounds.iwae(log_w))


def test_blocks_must_tile():
    with pytest.raises(ValueError, match="blocks of 4 do not tile 6"):
        bounds.block_bound(torch.zeros(6, 1), 4)


def test_adding_a_constant_adds_it_and_the_order_of_samples_is_free():
    log_w = torch.randn(7, 4, dtype=torch.float64) * 50
    shuffled = log_w[torch.randperm(7)]
    torch.testing.assert_close(bounds.iwae(log_w + 1e5), bounds.iwae(log_w) + 1e5, rtol=1e-14, atol=0)
    torch.testing.assert_close(bounds.iwae(shuffled), bounds.iwae(log_w), rtol=1e-13, atol=0)


def test_zero_weights_are_legal_and_their_gradient_is_zero():
    log_w = torch.full((3, 2), -torch.inf, dtype=torch.float64)
    log_w[0, 0] = 1.0
    log_w.requires_grad_()
    value = bounds.iwae(log_w)
    assert value.tolist() == [1.0 - np.log(3), -np.inf]
    value[0].backward()
    assert log_w.grad is not None
    assert torch.equal(log_w.grad, torch.tensor([[1.0, 0], [0, 0], [0, 0]], dtype=torch.float64))
    (dead,) = torch.autograd.grad(bounds.iwae(log_w)[1], log_w)
    assert torch.equal(dead, torch.zeros_like(dead))
    assert bounds.effective_sample_size(log_w.detach()).tolist() == [1.0, 0.0]


def test_effective_sample_size_of_equal_and_of_two_weights():
    assert bounds.effective_sample_size(torch.zeros(5, 1)).item() == pytest.approx(5)
    log_w = torch.tensor([[3.0], [1.0]], dtype=torch.float64).log()
    assert bounds.effective_sample_size(log_w).item() == pytest.approx(16 / 10)


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_gamma_weights_have_their_closed_form(k):
    """w ~ Exp(1): E log of a K-mean is digamma(K) - log K (estimators of the jackknife literature)."""
    log_w = torch.empty(k, 200_000, dtype=torch.float64).exponential_().log()
    assert_mean(bounds.iwae(log_w), digamma(k) - np.log(k), detects=0.05)


# E_q[w] = 1 for p = N(0.3, 1), q = N(0, 1.3^2); Monte Carlo digits of the reference, last one uncertain.
@pytest.mark.parametrize(("k", "gap"), [(1, 0.127636), (2, 0.0448), (5, 0.0149), (10, 0.0071)])
def test_gaussian_pair_meets_its_digits(k, gap):
    p, q = torch.distributions.Normal(0.3, 1.0), torch.distributions.Normal(0.0, 1.3)
    z = q.sample((k, 400_000)).double()
    bound = bounds.iwae(p.log_prob(z) - q.log_prob(z))
    assert abs(bound.mean().item() + gap) < 0.003 / k**0.5


def test_block_sizes_tile_and_end_at_the_whole():
    assert bounds.block_sizes(100) == [1, 2, 5, 10, 20, 50, 100]
    assert bounds.block_sizes(1) == [1]
    assert bounds.block_sizes(16) == [1, 2, 16]


def test_the_curve_is_the_bound_at_every_block_size():
    log_w = torch.randn(600, 3, dtype=torch.float64) * 4
    log_w[::7, 0] = -torch.inf
    log_w[:, 1] = -torch.inf
    expected = torch.stack([bounds.block_bound(log_w, size) for size in bounds.block_sizes(600)])
    torch.testing.assert_close(bounds.block_curve(log_w), expected, rtol=1e-13, atol=1e-12)


def test_leaving_one_out_is_the_sum_of_the_others():
    """Columns with and without a weight of more than half, and with none at all."""
    log_w = torch.randn(6, 5, dtype=torch.float64)
    log_w[2, 1] = 40.0
    log_w[:, 2] = -torch.inf
    log_w[1:, 3] = -torch.inf
    found = bounds.leave_one_out(log_w)
    for k in range(6):
        others = torch.cat([log_w[:k], log_w[k + 1 :]]).logsumexp(0)
        torch.testing.assert_close(found[k], others, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("k", [20, 50])
def test_the_upper_bound_of_gamma_weights_has_its_closed_form(k):
    """w ~ Gamma(1, 1): a mean X of K - 1 has E log X = digamma(K - 1) - log(K - 1) and E 1/X = (K - 1) / (K - 2)."""
    log_w = torch.empty(k, 100_000, dtype=torch.float64).exponential_().log()
    exact = digamma(k - 1) - np.log(k - 1) + (k - 1) / (k - 2) - 1
    assert_mean(bounds.leave_one_out_upper(log_w), exact, detects=0.01)


@given(weights)
@settings(max_examples=100, deadline=None)
def test_the_upper_bound_is_never_below_the_lower_one_and_meets_it_where_weights_are_equal(log_w):
    log_w = torch.tensor(log_w)
    below, above = bounds.iwae(log_w), bounds.leave_one_out_upper(log_w)
    assert bool((above >= below - 1e-12 * below.abs().clamp_min(1)).where(below > -torch.inf, above == torch.inf).all())
    equal = torch.full((7, 2), -3.25, dtype=torch.float64)
    torch.testing.assert_close(bounds.leave_one_out_upper(equal), equal[0], rtol=0, atol=1e-12)


def test_a_weight_that_stands_alone_has_no_upper_bound():
    alone = torch.full((4, 1), -torch.inf, dtype=torch.float64)
    alone[2] = 0.0
    assert bounds.leave_one_out_upper(alone).item() == torch.inf
    with pytest.raises(ValueError, match="two weights or more"):
        bounds.leave_one_out_upper(alone[:1])
