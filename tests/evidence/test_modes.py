"""The search for modes that q misses: it finds them, raises no alarm without one, and its value is a lower bound."""

import math

import pytest
import torch
from budget import assert_mean
from evidence.models import boxed
from scipy import stats
from torch.distributions import Independent, Normal, constraints

from benchmarks.modes import KINDS, arena
from taut.errors import UserError
from taut.evidence import Importance, Modes, Struski
from taut.evidence.diagnostics import MAX_MISSED, reliability_warnings
from taut.evidence.hmc import Path, Point
from taut.evidence.modes import Copies, WithCopies, climbed, curvature, distinct, newton
from taut.testing import gaussian_mixture, linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")
TRIALS = 30


@pytest.mark.parametrize(("dim", "distance"), [(2, 3), (10, 3), (10, 10)])
def test_a_mode_with_half_of_the_mass_is_found_and_none_is_invented(dim, distance):
    """Binomial bounds: 95% found at least, 5% of false alarms at most, each refused in one of a million runs."""
    alarms = {}
    for kind in KINDS:
        known = arena(dim, distance, TRIALS, kind)
        found = Modes(1000)(known.target, known.x)
        alarms[kind] = int((found.diagnostics["missed"] > MAX_MISSED).sum())
        if kind == "missed":
            missed = found
    assert alarms["missed"] >= stats.binom.ppf(1e-6, TRIALS, 0.95)
    assert max(alarms["one mode"], alarms["both"]) <= stats.binom.ppf(1 - 1e-6, TRIALS, 0.05)
    (warning, *_) = reliability_warnings(missed)
    assert warning.short == "q misses a mode"
    assert f"q misses a mode of {alarms['missed']} of {TRIALS} data" in warning.text


def test_the_value_counts_the_mode_that_draws_of_q_never_meet():
    """log 2 below without it, struski's upper bound included; the missed share is one half."""
    known = arena(5, 10, 30, "missed")
    own, above, found = (one(known.target, known.x) for one in (Importance(1000), Struski(1000), Modes(1000)))
    assert own.mean == pytest.approx(-math.log(2), abs=0.02)
    assert above.mean == pytest.approx(-math.log(2), abs=0.02)
    assert found.mean == pytest.approx(0, abs=0.05)
    assert found.diagnostics["missed"].median() == pytest.approx(0.5, abs=0.05)


def test_the_exponential_is_unbiased_whatever_the_search_finds():
    one = linear_gaussian(2, 4, 1, width=1.2, shift=1.0)
    found = Modes(100)(one.target, one.x.expand(500, 4))
    assert found.unbiased
    assert_mean((found.value - one.log_px).exp(), 1.0, detects=0.05)


def test_the_mixture_is_a_density_and_draws_come_from_it():
    q = Independent(Normal(torch.tensor([[0.0], [5.0]]), 0.5), 1)
    centre, places = torch.tensor([[0.1], [4.9]]), torch.tensor([[[2.0], [2.0]], [[4.0], [6.0]]])
    widths, logits = torch.tensor([[[0.5], [3.0]], [[1.0], [0.4]]]), torch.tensor([[0.2, 0.7], [0.8, 0.3]]).log()
    mixed = WithCopies(q, Copies(centre, places, widths, logits))
    line = torch.linspace(-10, 15, 5001).view(-1, 1, 1).expand(-1, 2, 1)
    total = torch.trapezoid(mixed.log_prob(line).exp(), line[:, 0, 0], dim=0)
    torch.testing.assert_close(total, torch.ones(2), rtol=0, atol=1e-9)
    torch.manual_seed(0)
    z = mixed.sample((20_000,))[..., 0]
    # a copy has its place where q has the centre, which its draws need not have as their mean
    means = [0.2 * (2 - 0.5 * 0.1) + 0.8 * (4 - 0.1), 0.7 * (2 + 3.0 * 0.1) + 0.3 * (6 + 0.4 * 0.1)]
    assert_mean(z, torch.tensor([0.5 * means[0], 2.5 + 0.5 * means[1]]), detects=0.2)
    density = mixed.log_prob(line).exp()
    second = torch.trapezoid(line[..., 0].square() * density, line[:, 0, 0], dim=0)
    assert_mean(z.square(), second, detects=1.0)


def test_climbs_end_on_the_maximum_also_where_q_is_five_times_too_wide_or_narrow():
    peak = torch.tensor([1.0, -2.0])
    start = 4 * torch.randn(6, 3, 2)
    q = Independent(Normal(torch.zeros(3, 2), 1.0), 1)
    path = Path(lambda z: -((z - peak) / 0.3).square().sum(-1) / 2, q, constraints.real_vector)
    for width in (0.06, 0.3, 1.5):
        ends = climbed(path, start, torch.full((3, 2), width), 60)
        assert (ends.u - peak).abs().max() < 0.05, width


def test_of_ends_on_one_peak_one_is_kept():
    u = torch.tensor([0.0, 0.1, 5.0, 5.2, -4.0]).view(5, 1, 1)
    height = torch.tensor([1.0, 3.0, 2.0, 0.0, torch.nan]).view(5, 1)
    heights, places = distinct(Point(u, height, height, u, u), torch.ones(1, 1))
    assert places[:2, 0, 0].tolist() == [0.1, 5.0]
    assert heights[:2, 0].tolist() == [3.0, 2.0]
    assert bool((heights[2:] == -torch.inf).all())


@pytest.mark.parametrize(("dim", "distance", "other"), [(10, 10, 2.5), (20, 10, 2.5)])
def test_a_mode_of_another_width_is_found(dim, distance, other):
    """Nine of ten at least, by the same binomial bound; a copy as wide as q finds 15% and none."""
    known = arena(dim, distance, TRIALS, "missed", other)
    missed = Modes(1000)(known.target, known.x).diagnostics["missed"]
    assert int((missed > MAX_MISSED).sum()) >= stats.binom.ppf(1e-6, TRIALS, 0.9)


def test_curvature_and_a_newton_step_are_those_of_a_gaussian():
    """The step ends on the maximum of a Gaussian of any widths; one from a summit, or up from none, stays."""
    peak, widths = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([0.1, 1.0, 3.0])
    q = Independent(Normal(torch.zeros(1, 3), 1.0), 1)
    path = Path(lambda z: -((z - peak) / widths).square().sum(-1) / 2, q, constraints.real_vector)
    at = torch.stack([peak + 2.0, peak, peak - 1.0]).unsqueeze(1)
    curved, pull = curvature(path, at, 0.25 * torch.tensor([[1.0, -1.0, 1.0]]))
    torch.testing.assert_close(curved, widths.pow(-2).expand(3, 1, 3))
    torch.testing.assert_close(pull, (peak - at) / widths.square())
    before = path.at(at).log_joint
    before[2] = -torch.inf
    heights, z = newton(path, before, at, pull, curved)
    torch.testing.assert_close(z, torch.stack([peak, peak, peak - 1.0]).unsqueeze(1))
    torch.testing.assert_close(heights, torch.tensor([[0.0], [0.0], [-torch.inf]]))
    _, same = newton(path, before, at, pull, -curved)
    torch.testing.assert_close(same, at)


@pytest.mark.parametrize("known", [lambda: gaussian_mixture(2), boxed], ids=["categories", "a box"])
def test_a_z_that_cannot_be_moved_is_refused(known):
    with pytest.raises(UserError, match="real numbers without bounds"):
        Modes()(known().target, known().x)
