"""Sizes of samples: the cheapest that reach a spread, against a solver that knows nothing of them."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from taut.functional.allocation import allocate, rounded, spread_within

VARIANCE = torch.tensor([0.5, 3.0, 40.0, 0.0, 900.0], dtype=torch.float64)
COST = torch.tensor([1.0, 1.0, 1.0, 1.0, 50.0], dtype=torch.float64)
LEAST = torch.full((5,), 8.0, dtype=torch.float64)


@pytest.mark.parametrize("most", [1e9, 900.0])
def test_no_sizes_of_this_spread_are_cheaper(most):
    spread, limit = 0.8, torch.full((5,), most, dtype=torch.float64)
    found = allocate(VARIANCE, COST, spread, least=LEAST, most=limit)
    variance, cost = VARIANCE.numpy(), COST.numpy()
    solved = minimize(
        lambda log_k: (cost * np.exp(log_k)).sum() / 1e4,
        np.log(np.full(5, 400.0)),
        jac=lambda log_k: cost * np.exp(log_k) / 1e4,
        bounds=[(np.log(8.0), np.log(most))] * 5,
        constraints={
            "type": "ineq",
            "fun": lambda log_k: spread - (variance / np.exp(log_k)).mean(),
            "jac": lambda log_k: variance / np.exp(log_k) / 5,
        },
        options={"maxiter": 500, "ftol": 1e-12},
    )
    assert solved.success, solved.message
    assert (VARIANCE / found).mean() == pytest.approx(spread, rel=1e-9)
    assert (COST * found).sum() == pytest.approx(1e4 * solved.fun, rel=1e-5)
    np.testing.assert_allclose(found, np.exp(solved.x), rtol=1e-2)


def test_where_no_size_suffices_every_noisy_datum_gets_the_most():
    most = torch.full((5,), 20.0, dtype=torch.float64)
    found = allocate(VARIANCE, COST, 1e-6, least=LEAST, most=most)
    assert found.tolist() == [20, 20, 20, 8, 20]
    assert allocate(torch.zeros(5), COST, 0.1, least=LEAST, most=most).tolist() == [8] * 5


@pytest.mark.parametrize(("tolerance", "quantile", "n"), [(0.05, 1.96, 1), (1e-6, 3.0, 10), (2.0, 0.5, 10**6)])
def test_the_spread_makes_half_of_the_bracket_the_tolerance(tolerance, quantile, n):
    spread = spread_within(tolerance, quantile, n)
    assert quantile * (spread / n) ** 0.5 + spread / 2 == pytest.approx(tolerance, rel=1e-12)


def test_sizes_are_rounded_up_by_an_eighth_or_one_unit_at_most_to_few_kinds():
    sizes = torch.linspace(33, 50_000, 4001, dtype=torch.float64)
    found = rounded(sizes, 32)
    assert bool((found % 32 == 0).all())
    excess = found - sizes
    assert bool((excess >= 0).all())
    assert bool((excess <= torch.maximum(sizes / 8, torch.tensor(32.0))).all())
    assert len(rounded(sizes[(sizes >= 1024) & (sizes < 2048)], 32).unique()) <= 9
