"""Brackets of a stated width, against log p(x) in closed form: they hold it, kinds stay true, nothing is promised."""

import math

import pytest
import torch
from budget import assert_mean
from scipy import stats
from torch.distributions import Independent, Normal

from taut.evidence import Target
from taut.evidence.loop import EvalTask
from taut.evidence.tolerance import METHODS, Goal, bracket
from taut.evidence.tolerance.bracket import ends
from taut.evidence.tolerance.method import Method, Sampler
from taut.evidence.tolerance.survey import Survey
from taut.evidence.weights import Weights
from taut.functional import bounds
from taut.runtime.processes import Processes
from taut.runtime.progress import Stages
from taut.testing import gaussian_mixture, linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")
CHANCE = 1e-6
"""Probability that an honest count of failures is refused."""


def bracketed(known, goal, *, seed=0):
    target, x = known.target, known.x
    stages = Stages(shown=False)
    task = EvalTask(target, x, "test", seed, 100)
    return bracket(task, goal, Processes(), stages.stage("pilots", len(x)), stages.stage("draws", len(x)))


@pytest.mark.parametrize("goal", [0.02, 0.2])
def test_brackets_of_single_data_hold_the_truth_as_often_as_they_say(goal):
    """120 data of a model in closed form, each a trial of its own."""
    known = linear_gaussian(2, 4, 120, width=1.3, shift=0.3)
    found = bracketed(known, Goal(goal, per_datum=True, confidence=0.9))
    low, high = found.ends(Goal(goal, confidence=0.9))
    outside = int(((known.log_px < low) | (known.log_px > high)).sum())
    assert outside <= stats.binom.ppf(1 - CHANCE, 120, 0.1)
    assert ((high - low) / 2 <= goal).double().mean() > 0.9
    assert found.summary(Goal(goal, per_datum=True, confidence=0.9))["share"] > 0.9


def test_brackets_of_the_mean_hold_it_as_often_as_they_say():
    known, goal = linear_gaussian(1, 3, 3, width=1.3, shift=0.5), Goal(0.05, confidence=0.9)
    truth, trials = known.log_px.mean().item(), 30
    every = [bracketed(known, goal, seed=seed).summary(goal) for seed in range(trials)]
    outside = sum(not one["low"] <= truth <= one["high"] for one in every)
    assert outside <= stats.binom.ppf(1 - CHANCE, trials, 0.1)
    assert sum(one["reached"] for one in every) > 0.9 * trials


def test_both_kinds_are_true_of_data_that_a_pilot_sent_every_way():
    """The exponential of the lower bound is unbiased, whichever method and size the pilots chose."""
    one = linear_gaussian(2, 4, 1, width=1.2, shift=1.2)
    known = one._replace(x=one.x.expand(250, 4), log_px=one.log_px.expand(250))
    found = bracketed(known, Goal(0.2, per_datum=True))
    assert len(found.draws.unique()) > 3
    assert_mean((found.lower.value - known.log_px).exp(), 1.0, detects=0.07)
    assert (found.upper.value - known.log_px).mean() > -4 * found.upper.monte_carlo_error
    assert bool((found.upper.value >= found.lower.value).all())


def test_pilots_are_thrown_away_and_sizes_fixed_before_the_draws_that_count(monkeypatch):
    known, purposes, sized = linear_gaussian(2, 4, 12, width=1.1, shift=1.0), [], []
    weights, sizes = Sampler.weights, Survey.sizes
    monkeypatch.setattr(
        Sampler, "weights", lambda self, *args: purposes.append((args[3], args[2])) or weights(self, *args)
    )
    monkeypatch.setattr(Survey, "sizes", lambda self, **how: sized.append(len(purposes)) or sizes(self, **how))
    found = bracketed(known, Goal(0.02))
    pilots = [purpose for purpose, _ in purposes if purpose.startswith("pilot/")]
    values = [(purpose, k) for purpose, k in purposes if purpose.startswith("value/")]
    assert [purpose for purpose, _ in purposes] == [*pilots, *(purpose for purpose, _ in values)]
    assert sized[-1] == len(pilots)
    assert sorted({k for _, k in values}) == found.draws.unique().tolist()
    again = bracketed(known, Goal(0.02))
    assert torch.equal(found.lower.value, again.lower.value)


def test_chains_are_annealed_where_q_is_poor_and_nowhere_else():
    """Half of the data have a q that is 6 standard deviations off."""
    known = linear_gaussian(2, 4, 8, width=1.5)
    off = torch.tensor([0.0, 6.0] * 4).unsqueeze(1)
    own = known.target.q(known.x)

    def q(x):
        rows = (x.unsqueeze(1) == known.x).all(-1).double().argmax(1)
        return Independent(Normal(own.mean[rows] + off[rows] * own.stddev[rows], own.stddev[rows]), 1)

    known = known._replace(target=Target(known.target.log_joint, q, known.target.prior))
    goal = Goal(0.05)
    found = bracketed(known, goal)
    assert [METHODS[i] for i in found.method.tolist()] == ["importance", "annealed"] * 4
    summary = found.summary(goal)
    assert summary["reached"], summary
    assert summary["low"] <= known.log_px.mean() <= summary["high"]


def test_chains_are_annealed_where_q_is_too_narrow_for_any_number_of_draws():
    """A q of 0.6 times the width in six dimensions: the true k-hat is 0.64, and its weights have no variance."""
    prior = Independent(Normal(torch.zeros(6), 1.0), 1)
    target = Target(
        lambda x, z: prior.log_prob(z) + x[:, 0],
        lambda x: Independent(Normal(torch.zeros(len(x), 6), 0.6), 1),
        prior,
    )
    x = torch.linspace(-2, 2, 5).unsqueeze(1)
    goal = Goal(0.2)
    found = bracketed(type(linear_gaussian(1, 1, 1))(target, x, x, x[:, 0]), goal)
    assert [METHODS[i] for i in found.method.tolist()].count("annealed") >= 3
    summary = found.summary(goal)
    assert summary["low"] <= 0 <= summary["high"]
    assert summary["reached"] or summary["limits"]
    assert (found.evaluations > 128).all()


def test_a_budget_is_kept_and_named():
    known = linear_gaussian(3, 6, 10, width=1.6, shift=0.2)
    goal = Goal(0.001, budget=2000)
    found = bracketed(known, goal)
    assert float(found.evaluations.max()) <= 2000
    summary = found.summary(goal)
    assert not summary["reached"]
    assert summary["share"] == 0
    assert set(summary["limits"]) <= {"budget", "k-hat"}
    assert summary["limits"]["budget"] > 5
    assert summary["low"] <= known.log_px.mean() + 0.05


def test_nothing_is_drawn_where_the_value_is_known():
    known = gaussian_mixture(6)
    found = bracketed(known, Goal(0.01))
    torch.testing.assert_close(found.lower.value, known.log_px, rtol=0, atol=1e-9)
    assert found.summary(Goal(0.01))["reached"]
    assert found.evaluations.sum() == 0
    assert found.summary(Goal(0.01))["methods"] == {"exact": 6}


def test_the_error_of_the_upper_bound_is_that_of_many_runs():
    log_w = torch.empty(320, 300).exponential_().log()
    found = bounds.variance_of_leave_one_out_upper(log_w, 32)
    spread = bounds.leave_one_out_upper(log_w).var()
    assert found.mean() / spread == pytest.approx(1, abs=0.3)


def test_fresh_draws_that_miss_the_rare_large_weights_have_the_noise_that_pilots_have_foreseen():
    """Equal weights show none of their own: a bracket would be a point, and miss."""
    spent, cut = torch.zeros(2), torch.zeros(2, dtype=torch.bool)
    found = ends(Method(), Weights(torch.zeros(200, 2)), torch.tensor([0.5, 0.0]), spent, cut, 0.0)
    for end in (found.lower, found.upper):
        assert end.variance.tolist() == [0.5 / 200, 0.0]
    skewed = torch.zeros(200, 1).index_fill(0, torch.tensor([0]), math.log(100.0))
    own = Weights(skewed).iwae_variance
    assert own > 0.1
    assert ends(Method(), Weights(skewed), torch.zeros(1), spent[:1], cut[:1], 0.0).lower.variance == own
