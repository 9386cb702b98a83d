"""Means over a split: of data, not of batches; with errors; never over a NaN."""

import pytest
import torch
from pieces import X, build
from torch.distributions import AffineTransform, Independent, Normal, TransformedDistribution

from taut.evidence.score import Scores, score
from taut.training.metrics import NotANumber, ScoreMeter


def _scores(values: torch.Tensor, mean_z: torch.Tensor | None = None, noise_z: torch.Tensor | None = None) -> Scores:
    z = torch.zeros(len(values), 2, dtype=torch.float64) if mean_z is None else mean_z
    noise_z = torch.zeros_like(z) if noise_z is None else noise_z
    noise = {"a": torch.full_like(values, 0.04)}
    return Scores({"a": values, "b": 2 * values}, noise, torch.stack([values, values + 1]), z, noise_z)


def _meter() -> ScoreMeter:
    return ScoreMeter(["a", "b"], 2, (2,), "val")


def test_short_last_batch_weighs_what_it_holds():
    values = torch.randn(7, dtype=torch.float64)
    meter = _meter()
    for rows in (torch.arange(5), torch.arange(5, 7)):
        meter.update(_scores(values[rows]), rows)
    summary = meter.compute()
    assert summary.n == 7
    assert summary.scores["a"]["value"] == pytest.approx(values.mean().item(), abs=1e-14)
    assert summary.scores["b"]["standard_error"] == pytest.approx(2 * values.std().item() / 7**0.5, rel=1e-12)
    assert summary.scores["a"]["monte_carlo_error"] == pytest.approx((0.04 * 7) ** 0.5 / 7)
    assert summary.scores["b"]["monte_carlo_error"] == 0
    assert summary.curve == pytest.approx([values.mean().item(), values.mean().item() + 1])
    assert summary.curve_errors[1] == pytest.approx(values.std().item() / 7**0.5, rel=1e-9)


def test_active_units_are_those_whose_mean_moves():
    z = torch.zeros(50, 2, dtype=torch.float64)
    z[:, 0] = torch.linspace(-0.5, 0.5, 50)
    z[:, 1] = 0.09 * torch.tensor([1.0, -1.0]).repeat(25)
    meter = _meter()
    meter.update(_scores(torch.zeros(50, dtype=torch.float64), z), torch.arange(50))
    assert meter.compute().scores["active_units"]["value"] == 1


def test_a_mean_that_is_estimated_makes_no_unit_active_by_its_noise():
    """One q for all x whose mean is unknown: 16 draws of N(0, 1) move its estimate by 1/16, six times what is active.

    The second unit moves with x besides, by a variance of 0.09.
    """
    n, k = 2000, 16
    z = torch.randn(n, k, 2, dtype=torch.float64) + torch.tensor([0.0, 0.3]) * torch.randn(n, 1, 2, dtype=torch.float64)
    meter = _meter()
    values = torch.zeros(n, dtype=torch.float64)
    meter.update(_scores(values, z.mean(1), z.var(1) / k), torch.arange(n))
    assert z.mean(1).var(0).min() > 0.05, "as it would be without the subtraction"
    assert meter.compute().scores["active_units"]["value"] == 1


def test_a_q_of_unknown_mean_that_is_the_same_for_all_x_has_no_active_unit():
    """The mean of a transformed q is estimated from the few draws that score a datum, and 1/16 is their noise."""
    n, k = 2000, 16

    def q(x: torch.Tensor) -> TransformedDistribution:
        return TransformedDistribution(Independent(Normal(torch.zeros(len(x), 2), 1.0), 1), [AffineTransform(0.5, 1.0)])

    joint, _, objective = build("latent_dim=2")
    x, index = torch.randint(2, (n, *X)).float(), torch.arange(n)
    scores = score(joint.float(), q, x, index, bound=objective.bound, k=4, samples=k, seed=0, split="test")
    assert scores.mean_z.var(0).min() > 0.05, "as it would be without the subtraction"
    meter = ScoreMeter(list(scores.values), len(scores.curve), (2,), "test")
    meter.update(scores, index)
    assert meter.compute().scores["active_units"]["value"] == 0


def test_nan_names_the_datum_and_the_stage_and_is_not_averaged():
    values = torch.tensor([0.0, float("nan")], dtype=torch.float64)
    with pytest.raises(NotANumber, match=r"val/a of row 17 is nan"):
        _meter().update(_scores(values), torch.tensor([4, 17]))


def test_reset_starts_again():
    meter = _meter()
    meter.update(_scores(torch.ones(3, dtype=torch.float64)), torch.arange(3))
    meter.reset()
    meter.update(_scores(torch.zeros(2, dtype=torch.float64)), torch.arange(2))
    assert meter.compute().scores["a"]["value"] == 0
    assert meter.compute().n == 2
