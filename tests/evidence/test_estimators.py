"""Every estimator against an exact value: unbiased where it says so, on its own side, with honest errors."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from budget import assert_mean, assert_not_above
from evidence.models import bernoulli_mixture, boxed, curved, pair
from scipy.special import digamma
from torch.distributions import Exponential, Independent

from taut.errors import UserError
from taut.evidence import AIS, BDMC, UK, Importance, Naive, Rows, Struski, Sumo, Target, Uniform, annealing
from taut.evidence.gap import thermodynamic_curve
from taut.evidence.jackknife import second_order
from taut.evidence.sumo import _lengths, survival, telescoped
from taut.functional import bounds
from taut.testing import gaussian_mixture, linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def large_groups(monkeypatch):
    """Chains of thousands of data walk together: no side and no mean depends on how many do."""
    monkeypatch.setitem(annealing.AT_ONCE, "cpu", 2**14)


def _many(known, n):
    """One datum n times over, each with noise of its own."""
    return known.target, known.x[:1].expand(n, *known.x.shape[1:]), known.log_px[0]


UNBIASED = {
    "importance, Gaussian": (Importance(400), lambda: linear_gaussian(2, 4, 1, width=1.1), 1000),
    "importance, mixture": (Importance(400), lambda: gaussian_mixture(1), 2000),
    "importance, images": (Importance(400), bernoulli_mixture, 1000),
    "importance, two modes": (Importance(1000), lambda: curved(0.5), 2000),
    "naive, Gaussian": (Naive(1000), lambda: linear_gaussian(1, 1, 1, noise=1.0), 1600),
    "naive, mixture": (Naive(1000), lambda: gaussian_mixture(1), 1000),
    "naive, box": (Naive(1000), boxed, 1500),
    "uniform, mixture": (Uniform(1000), lambda: gaussian_mixture(1), 1000),
    "uniform, box": (Uniform(1000), boxed, 1500),
    "ais from q": (AIS(6, 8, 3), lambda: linear_gaussian(2, 4, 1, width=1.3), 6000),
    "ais from the prior": (AIS(12, 8, 3, "prior"), lambda: linear_gaussian(1, 2, 1, noise=1.0), 6000),
    "ais in a box": (AIS(10, 8, 3), boxed, 6000),
}


@pytest.mark.usefixtures("large_groups")
@pytest.mark.parametrize("name", UNBIASED)
def test_the_exponential_is_unbiased_for_the_evidence(name):
    """A bias of a hundredth of a nat would be seen."""
    estimator, instantiate, n = UNBIASED[name]
    target, x, truth = _many(instantiate(), n)
    found = estimator(target, x)
    assert found.unbiased
    assert found.kind == "lower"
    assert_mean((found.value - truth).exp(), 1.0, detects=0.01)


@pytest.mark.usefixtures("large_groups")
def test_reverse_annealing_is_unbiased_for_the_inverse():
    target, x, z, truth = linear_gaussian(2, 4, 6000, width=1.15)
    found = BDMC(6, 8, 3)(target, x, z=z)
    assert_mean((truth - found.value).exp(), 1.0, detects=0.01)


def test_one_annealing_step_is_importance_sampling_and_its_reverse_the_posterior_side():
    known = linear_gaussian(2, 4, 5)
    weights = known.target.log_joint(known.x, known.z[None]) - known.target.q(known.x).log_prob(known.z)
    reverse = BDMC(1, 4, 3)(known.target, known.x, z=known.z)
    torch.testing.assert_close(reverse.value, weights[0], rtol=1e-12, atol=1e-12)
    forward = AIS(1, 400, 3)(known.target, known.x)
    torch.testing.assert_close(forward.value, known.log_px, rtol=0, atol=6 * float(forward.variance.max().sqrt()))


SIDES = {
    "gaussian": lambda: linear_gaussian(2, 4, 300, width=1.2),
    "gaussian, narrow q": lambda: linear_gaussian(2, 4, 300, width=0.8),
    "pair": lambda: pair(n=300),
    "mixture": lambda: gaussian_mixture(300),
}


@pytest.mark.parametrize("name", SIDES)
def test_no_bound_stands_on_the_wrong_side(name):
    known = SIDES[name]()
    target, x, z, truth = known
    estimators = [Importance(20), Struski(40), UK(1), UK(20)]
    if target.prior is not None:
        estimators += [Naive(20), Uniform(20)]
    if not target.discrete:
        estimators += [AIS(5, 4, 3), BDMC(5, 4, 3)]
    for estimator in estimators:
        excess = estimator(target, x, z=z if estimator.simulated else None).value - truth
        assert_not_above(excess if estimator.kind == "lower" else -excess, 0.0)


def test_the_upper_bound_is_of_the_proposal_it_is_given():
    """The posterior in the place of a poor q: every weight is p(x), at every K."""
    posterior, poor = (linear_gaussian(1, 3, 5, width=width, shift=width - 1) for width in (1.0, 2.0))
    rows = Rows(poor.target, poor.x, z=poor.z, proposal=lambda some: posterior.target.q(poor.x[some]))
    for k in (1, 3):
        torch.testing.assert_close(UK(k).estimate(rows).value, poor.log_px, rtol=0, atol=1e-9)


def test_forward_and_reverse_annealing_enclose_the_evidence_in_ten_dimensions(trainings):
    target, x, z, truth = linear_gaussian(10, 20, 8)
    low, high = (one(target, x, z=z) for one in (AIS(1000, 8, 4), BDMC(1000, 8, 4)))
    assert (high.mean - low.mean) + 0.03 >= 0
    assert high.mean - low.mean <= 0.1
    assert abs(low.mean - truth.mean().item()) < 0.1
    assert 0.55 < low.diagnostics["acceptance"].mean() < 0.75


DIGITS = {1: (0.127636, 0.0849), 2: (0.0448, 0.0382), 5: (0.0149, 0.0146), 10: (0.0071, 0.0068)}


def test_digits_of_the_gaussian_pair():
    """log Z - L_K and U_K - log Z of p = N(0.3, 1), q = N(0, 1.3), from long runs of another program."""
    known = pair(n=200)
    low = Importance(10_000)(known.target, known.x)
    assert low.curve is not None
    for k, (below, above) in DIGITS.items():
        curve = low.curve[bounds.block_sizes(10_000).index(k)]
        assert_mean(-curve, below, detects=0.01)
        many = pair(n=1000)
        high = UK(k)(many.target, many.x, z=many.z)
        assert_mean(high.value, above, detects=0.2 / k**0.5)


def test_u_k_puts_one_posterior_sample_among_k():
    """By hand from the weights of the other K - 1; its inverse is unbiased for 1/p(x)."""
    target, x, z, _ = linear_gaussian(2, 4, 5)
    others = Rows(target, x).weights(2, "u_k").log_w
    own = target.log_joint(x, z[None]) - target.q(x).log_prob(z)
    by_hand = np.log(np.exp(torch.cat([own, others]).numpy()).mean(0))
    np.testing.assert_allclose(UK(3)(target, x, z=z).value, by_hand, rtol=1e-12)
    known = pair(n=8000)
    found = UK(20)(known.target, known.x, z=known.z)
    assert found.unbiased
    assert_mean((-found.value).exp(), 1.0, detects=0.01)


def test_struski_digits_and_its_side():
    """+0.0076 at k = 10 for the same pair, with the means of ten of fifteen weights as X; -0.0071 without Y/X - 1."""
    known = pair(n=6000)
    found = Struski(15, 3)(known.target, known.x)
    chance = Importance(15)(known.target, known.x).value.exp() - 1  # of the same samples: mean 0, and most of the noise
    assert_mean(found.value - chance, 0.0076, detects=0.002)
    assert_mean(found.value - found.diagnostics["correction"] - chance, -0.0071, detects=0.002)


@pytest.mark.parametrize(("k", "blocks"), [(12, 3), (12, 12)])
def test_struski_takes_every_block_against_the_mean_of_all_others(k, blocks):
    """Weights z of an exponential q: E log X = digamma(n) - log n and E 1/X = n / (n - 1), X a mean of n of them."""
    q = lambda x: Independent(Exponential(torch.ones(len(x), 1)), 1)  # noqa: E731
    target, x = Target(lambda x, z: (z.log() - z).sum(-1), q), torch.zeros(8000, 1)
    n = k - k // blocks
    assert_mean(Struski(k, blocks)(target, x).value, digamma(n) - math.log(n) + n / (n - 1) - 1, detects=0.04)


def test_struski_divides_the_samples_into_many_blocks():
    assert [Struski(k).blocks for k in (7, 60, 1000, 1024)] == [7, 60, 50, 64]
    assert Struski(7)(pair().target, torch.zeros(1, 1)).value.isfinite()
    with pytest.raises(UserError, match="multiple of 4"):
        Struski(1009)
    with pytest.raises(UserError, match="does not divide"):
        Struski(10, 3)


def test_naive_is_importance_sampling_from_the_prior_bit_for_bit():
    target, x, _, _ = linear_gaussian(2, 4, 5)
    from_prior = Target(target.log_joint, lambda x: target.prior.expand((len(x),)), target.prior)
    same = Importance(30)(from_prior, x, split="x/naive")
    assert torch.equal(Naive(30)(target, x).value, same.value)


def test_uniform_on_a_mixture_weighs_all_components_alike():
    """E log of the mean of two draws of a uniform category, enumerated."""
    target, x, _, _ = gaussian_mixture(1)
    z = target.prior.enumerate_support().unsqueeze(1)
    w = (target.log_joint(x, z)[:, 0] + math.log(3)).exp()
    pairs = torch.stack([(w[i] + w[j]).log() - math.log(2) for i in range(3) for j in range(3)])
    found = Uniform(4000)(target, x.expand(20, 2))
    assert found.curve is not None
    assert_mean(found.curve[1], pairs.mean(), detects=0.1)


def test_the_box_of_a_uniform_loses_what_lies_outside():
    target, x, _, truth = linear_gaussian(1, 1, 1, noise=1.0)
    wide, narrow = (Uniform(20_000, -end, end)(target, x).value for end in (6.0, 0.1))
    torch.testing.assert_close(wide, truth, rtol=0, atol=0.1)
    assert (narrow < truth - 0.5).all()
    with pytest.raises(UserError, match="below"):
        Uniform(5, 1.0, 1.0)


@pytest.mark.parametrize(("order", "rate"), [(1, 2), (2, 3)])
def test_jackknife_of_exponential_weights_loses_its_first_bias_terms(order, rate):
    """w ~ Gamma(1, 1): E log of the mean of K is digamma(K) - log K; a combination of those, no simulation needed."""

    def bias(k: int) -> float:
        levels = [float(digamma(k - j)) - math.log(k - j) for j in range(order + 1)]
        factors = {1: (k, -(k - 1)), 2: (k**2 / 2, -((k - 1) ** 2), (k - 2) ** 2 / 2)}[order]
        return sum(f * level for f, level in zip(factors, levels, strict=True))

    slope = math.log(abs(bias(80) / bias(40)), 2)
    assert slope <= -rate + 0.05  # the third term of this expansion vanishes, so order 2 does even better
    with torch.random.fork_rng():
        torch.manual_seed(0)
        log_w = torch.empty(8, 40_000).exponential_().log()
    value = bounds.jackknife(log_w) if order == 1 else second_order(log_w)
    assert_mean(value, bias(8), detects=0.05)


def test_jackknife_is_the_sum_over_all_subsets():
    log_w = torch.randn(6, 2) * 3
    level = {
        size: np.mean([log_w[list(s)].logsumexp(0).numpy() - math.log(size) for s in combinations(range(6), size)], 0)
        for size in (6, 5, 4)
    }
    first = 6 * level[6] - 5 * level[5]
    second = 36 / 2 * level[6] - 25 * level[5] + 16 / 2 * level[4]
    np.testing.assert_allclose(bounds.jackknife(log_w), first, rtol=1e-12)
    np.testing.assert_allclose(second_order(log_w), second, rtol=1e-10)
    shuffled = log_w[torch.randperm(6)]
    torch.testing.assert_close(bounds.jackknife(shuffled), bounds.jackknife(log_w))


def test_leaving_out_a_weight_that_dominates_keeps_its_digits():
    """log(S - w) would be all rounding: the rest is 1e-30 of the sum."""
    log_w = torch.tensor([[0.0], [-70.0], [-71.0]])
    left = bounds.leave_one_out(log_w)
    assert left[0].item() == pytest.approx(np.logaddexp(-70, -71), abs=1e-12)
    nothing = bounds.leave_one_out(torch.tensor([[-torch.inf], [0.0], [-torch.inf]]))
    assert nothing[:, 0].tolist() == [0.0, -math.inf, 0.0]


def test_sumo_is_unbiased_for_the_log():
    known = pair(n=400)
    found = Sumo(400)(known.target, known.x)
    assert_mean(found.value, 0.0, detects=0.12)
    assert found.kind == "estimate"


def test_sumo_lengths_follow_their_survival_function():
    u = (torch.arange(200_000) + 0.5) / 200_000
    lengths = _lengths(u)
    for n in (1, 2, 5, 80, 81, 90, 100):
        share = (lengths >= n).double().mean().item()
        assert share == pytest.approx(survival(torch.tensor(float(n))).item(), abs=1e-5)
    assert lengths.min() == 1


def test_a_sumo_run_telescopes():
    log_w = torch.randn(4)
    level = [log_w[: n + 1].exp().mean().log() for n in range(4)]
    by_hand = level[0] + sum((level[n] - level[n - 1]) * n for n in (1, 2, 3))  # 1 / P(N >= n) = n
    padded = torch.stack([log_w, torch.cat([log_w[:2], torch.tensor([5.0, 7.0])])], 1)  # the second run is shorter
    found = telescoped(padded, torch.tensor([3, 1]))
    torch.testing.assert_close(found[0], by_hand)
    torch.testing.assert_close(found[1], level[0] + level[1] - level[0])
    nothing = telescoped(torch.tensor([[-torch.inf], [0.0]]), torch.tensor([1]))
    assert nothing.tolist() == [-math.inf]


@pytest.mark.usefixtures("large_groups")
@pytest.mark.parametrize("name", ["importance", "ais"])
def test_intervals_cover_what_they_say(name):
    """95% intervals of single data, where the weights are good, cover 93 to 97%."""
    known = linear_gaussian(2, 4, 1, width=1.15)
    estimator = Importance(400) if name == "importance" else AIS(6, 64, 3)
    target, x, truth = _many(known, 4000 if name == "importance" else 1500)
    found = estimator(target, x)
    covered = ((found.value - truth).abs() < 1.96 * found.variance.sqrt()).double().mean().item()
    assert 0.93 < covered < 0.97
    if name == "importance":
        assert found.diagnostics["khat"][:50].max() < 0.5


def test_struski_states_its_noise():
    found = Struski(400, 8)(*_many(pair(), 1500)[:2])
    assert found.variance.mean().sqrt() / found.value.std() == pytest.approx(1, abs=0.15)


def test_the_thermodynamic_curve_of_gaussians_is_known():
    """pi_b has precision (1 - b)/s^2 + b/sp^2; its area is log p(x) = 0."""
    mean, s = 0.3, 1.3
    known = pair()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = s * torch.randn(400_000, 1, 1)
    weights = known.target.log_joint(known.x, z) - known.target.q(known.x).log_prob(z)
    betas = [i / 20 for i in range(21)]
    curve = thermodynamic_curve(weights, betas)[:, 0]
    precision = torch.tensor([(1 - b) / s**2 + b for b in betas])
    centre = torch.tensor([b * mean for b in betas]) / precision
    square = 1 / precision + centre**2
    exact = -((square - 2 * centre * mean + mean**2) / 2) + square / (2 * s**2) + math.log(s)
    torch.testing.assert_close(curve, exact, rtol=0, atol=0.005)
    assert (curve.diff() >= 0).all()
    assert torch.trapezoid(curve, torch.tensor(betas)).item() == pytest.approx(0, abs=0.004)
    assert curve[0].item() == pytest.approx(-0.127636, abs=0.004)
