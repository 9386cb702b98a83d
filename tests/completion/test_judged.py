"""Completions that are scored: the posterior of a mixture first, its intervals right, and only hidden cells counted."""

import math

import pytest
import torch

from benchmarks.completions import imputers
from taut.completion.judged import Judged


@pytest.fixture(scope="module")
def scores():
    return imputers(600, 0)


def _first(scores, name):
    return min(scores, key=lambda imputer: scores[imputer][name]["value"])


def test_proper_scores_rank_the_true_posterior_first_and_the_squared_error_its_mean(scores):
    """Unfair sums over all pairs would prefer the narrow draws; distances without them, the mean."""
    assert _first(scores, "energy") == _first(scores, "crps") == "draws of the posterior"
    assert _first(scores, "rmse") == "its mean"
    assert len(scores) == 5


def test_intervals_of_the_true_posterior_hold_their_share_of_the_cells(scores):
    """Of 1,200 cells; draws spread too far or too little are off by ten points and more."""
    own = scores["draws of the posterior"]
    assert 0.88 <= own["coverage_90"]["value"] <= 0.92
    assert abs(own["coverage_50"]["value"] - 0.5) < 0.05
    assert scores["draws, spread x 1.5"]["coverage_50"]["value"] > 0.6
    assert scores["draws, spread x 0.5"]["coverage_90"]["value"] < 0.7


def test_only_hidden_cells_whose_truth_is_known_are_scored():
    """The second row has one such cell, 1 off in a unit of 2; the first two, 3 and 4 off; the third none."""
    nan = math.nan
    x = torch.tensor([[nan, nan, 7.0], [nan, nan, 7.0], [1.0, 1.0, nan]])
    truth = torch.tensor([[0.0, 0.0, 7.0], [0.0, nan, 7.0], [1.0, 1.0, nan]])
    filled = torch.tensor([[3.0, 4.0, 0.0], [1.0, 9.0, 0.0], [9.0, 9.0, 9.0]])
    found = Judged.of(filled.unsqueeze(0), x, truth, torch.full((3,), 2.0))
    assert found.cells.tolist() == [2, 1, 0]
    assert found.energy.tolist() == [2.5, 0.5, 0]
    assert found.crps.tolist() == [3.5, 0.5, 0]
    said = found.scores()
    assert said["energy"]["value"] == 1.5, "of the two data that have such cells"
    assert said["crps"]["value"] == pytest.approx(4 / 3)
    assert set(said) == {"energy", "crps"}, "one completion has no intervals"


def test_parts_are_the_whole():
    generator = torch.Generator().manual_seed(0)
    draws, truth = torch.randn(99, 6, 2, generator=generator), torch.randn(6, 2, generator=generator)
    x, unit = torch.full((6, 2), math.nan), torch.ones(2)
    whole = Judged.of(draws, x, truth, unit)
    parts = Judged.cat([Judged.of(draws[:, i : i + 2], x[i : i + 2], truth[i : i + 2], unit) for i in (2, 0, 4)])
    assert parts.select(torch.tensor([2, 3, 0, 1, 4, 5])).scores()["energy"] == pytest.approx(whole.scores()["energy"])
    assert parts.scores()["coverage_90"] == pytest.approx(whole.scores()["coverage_90"])
