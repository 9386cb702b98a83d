"""What cannot be is void, and honest scores hardly ever are."""

import math

import numpy as np
import pytest
import torch
from pieces import X, build

from taut.evidence.score import score
from taut.functional.consistency import Judge, Value, Void, refuse
from taut.functional.statistics import Moments, standard_error, variance_of_mean
from taut.training.metrics import ScoreMeter, TrainingMonitor

CHECKS = 300_000
MOST = 1e-4
"""Share of honest checks that may be voided."""


def _voided(excess: np.ndarray, error: np.ndarray, judge: Judge) -> int:
    slope = judge.allowance(1.0) - judge.allowance(0.0)
    return int((excess > slope * error + judge.allowance(0.0)).sum())


@pytest.mark.parametrize(("n", "k"), [(1, 2), (3, 2), (2, 10), (50, 2)])
def test_divergences_near_zero_are_hardly_ever_voided(n, k):
    """KL(N(0, 1) || N(d, 1)) = d^2 / 2 from draws, its noise d times larger than it for a small d."""
    generator, d = np.random.default_rng(n), 0.05
    voided = 0
    for _ in range(10):
        values = d * d / 2 - d * generator.standard_normal((CHECKS // 10, n, k))
        error = np.sqrt((values.var(2, ddof=1) / k).sum(1)) / n
        voided += _voided(-values.mean((1, 2)), error, Judge(n, n * (k - 1)))
    assert voided < MOST * CHECKS  # where errors are normal about a third of that is expected


@pytest.mark.parametrize(("n", "k", "s"), [(1, 2, 1.0), (2, 5, 2.0), (10, 20, 0.3), (4, 50, 0.05)])
def test_bounds_of_an_exact_value_are_hardly_ever_voided(n, k, s):
    """log mean w of log-normal weights with E w = 1 against log 1, with its error by the delta method."""
    generator, voided = np.random.default_rng(k), 0
    for _ in range(10):
        w = np.exp(s * generator.standard_normal((CHECKS // 10, n, k)) - s * s / 2)
        mean = w.mean(2)
        error = np.sqrt((w.var(2, ddof=1) / k / mean**2).sum(1)) / n
        voided += _voided(np.log(mean).mean(1), error, Judge(n, n * (k - 1)))
    assert voided < MOST * CHECKS


def test_many_checks_are_allowed_more_and_more_data_less():
    assert Judge(10, checks=100).allowance(0.0) - Judge(10).allowance(0.0) == pytest.approx(math.log(100) / 10)
    assert Judge(1000).allowance(0.5) - Judge(1000).allowance(0.0) == pytest.approx(2.0)
    assert Judge(10, 2).allowance(1.0) > 50  # three draws do not tell an error
    assert Judge(1).allowance(0.0, 1e6) == pytest.approx(1.0)


VALUES = [Value("the ELBO", "lower", -3.0, 0.01), Value("log p(x)", "exact", -2.9)]
KL = Value("KL", "estimate", 0.2, 0.01)


@pytest.mark.parametrize(
    ("values", "kl", "mass", "words"),
    [
        (
            [Value("the ELBO", "lower", 20.4, 0.1)],
            KL,
            True,
            r"test: the ELBO is 20\.4 nats, but p\(x\) is a probability",
        ),
        ([*VALUES, Value("log p(x)", "exact", 0.01)], KL, True, r"log p\(x\) is 0\.01 nats"),
        (VALUES, Value("KL", "estimate", -25.4, 0.5), False, r"KL is -25\.4 nats, but a divergence is at least 0"),
        (
            [Value("the ELBO", "lower", -2.0, 0.01), VALUES[1]],
            KL,
            False,
            r"the ELBO \(lower bound\) is -2 nats, above log",
        ),
    ],
)
def test_what_cannot_be_is_void_by_name(values, kl, mass, words):
    with pytest.raises(Void, match=words):
        refuse(values, kl, Judge(100, 100), mass=mass, where="test")
    refuse(VALUES, KL, Judge(100, 100), mass=True, where="test")


def test_a_density_may_be_above_zero():
    refuse([Value("the ELBO", "lower", 20.4, 0.1)], KL, Judge(100), mass=False, where="test")


def test_a_training_bound_above_zero_stops_the_run():
    trained = TrainingMonitor(0, torch.device("cpu"))
    index = torch.arange(4)
    trained.note(torch.tensor([-1.0, 0.5, 0.2, -0.4]), torch.tensor(0.0), index)
    trained.refuse_above_mass(4, 1, 1)
    trained.note(torch.tensor([40.0, 41.0, 39.0, 40.5]), torch.tensor(0.0), index)
    trained.take()
    trained.note(torch.tensor([40.0, 41.0, 39.0, 40.5]), torch.tensor(0.0), index)
    with pytest.raises(Void, match="epoch 3: the training bound is 40"):
        trained.refuse_above_mass(4, 3, 3)


def test_only_masses_know_a_largest_value():
    assert build()[0].likelihood.is_mass
    assert not build("likelihood=gaussian")[0].likelihood.is_mass


def test_equal_numbers_have_no_spread():
    for value in (0.1, 1e9 + 0.1, 4.9999999999):
        equal = torch.full((7,), value, dtype=torch.float64)
        parts = [Moments.of(equal[:3]), Moments.of(equal[3:4]), Moments.of(equal[4:])]
        assert float(Moments.merged(parts).squares) == 0
        assert float(Moments.merged(parts).mean) == value
        assert float(standard_error(equal)) == float(variance_of_mean(equal)) == 0


def test_moments_of_parts_are_those_of_the_whole():
    torch.manual_seed(0)
    values = 1e6 + torch.randn(11, 2, dtype=torch.float64)
    parts = [Moments.of(values[rows]) for rows in (slice(0, 5), slice(5, 6), slice(6, 11))]
    nothing = Moments(*(torch.zeros_like(part) for part in parts[0]))
    merged = Moments.merged([nothing, *parts])
    torch.testing.assert_close(merged.mean, values.mean(0), rtol=1e-15, atol=0)
    torch.testing.assert_close(merged.variance, values.var(0), rtol=1e-9, atol=0)
    torch.testing.assert_close(merged.standard_error, standard_error(values.T), rtol=1e-9, atol=0)
    assert Moments.of(values[:1]).variance.isnan().all()


def test_moments_of_processes_merge_as_they_are_gathered():
    """What a meter holds once torchmetrics has gathered it: the states of every process behind one another."""
    torch.manual_seed(1)
    joint, q, objective = build()
    joint.double(), q.double()
    x = torch.randint(2, (9, *X)).double()

    def meter_of(rows: slice) -> ScoreMeter:
        names = ["elbo", "log_px", "kl"]
        meter = ScoreMeter(names, 2, (3,), "test")
        index = torch.arange(9)[rows]
        scores = score(
            joint, q, x[rows], index, bound=objective.bound, k=1, samples=5, seed=0, split="test", detailed=True
        )
        meter.update(scores, index)
        return meter

    whole, parts = meter_of(slice(0, 9)), [meter_of(slice(0, 2)), meter_of(slice(2, 9))]
    gathered = ScoreMeter(["elbo", "log_px", "kl"], 2, (3,), "test")
    for name in ("count", "mean", "squares"):
        setattr(gathered, name, torch.stack([getattr(part, name) for part in parts]))
    gathered.spreads, gathered.z_noise = (sum(getattr(part, name) for part in parts) for name in ("spreads", "z_noise"))
    gathered.details = [torch.cat([torch.cat(part.details) for part in parts])]
    one, two = whole.compute(), gathered.compute()
    assert one.n == two.n == 9
    assert one.curve == pytest.approx(two.curve, rel=1e-12)
    assert one.details.shape == (9, 5)
    torch.testing.assert_close(one.details, two.details, equal_nan=True)
    for name, values in one.scores.items():
        assert values == pytest.approx(two.scores[name], rel=1e-9), name
