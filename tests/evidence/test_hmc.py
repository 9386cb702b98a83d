"""The moves of annealing: they leave the path alone, run backwards to where they came from, and mind the Jacobian."""

from itertools import pairwise

import pytest
import torch
from budget import assert_mean
from evidence.models import boxed
from torch.distributions import Independent, Normal

from taut.evidence import AIS, BDMC
from taut.evidence.annealing import Annealed
from taut.evidence.hmc import Noise, Path, transition
from taut.evidence.rows import Rows
from taut.functional.sampling import NoiseKeys
from taut.testing import linear_gaussian

pytestmark = pytest.mark.usefixtures("float64")


class Given(Noise):
    """Noise that is handed in."""

    def __init__(self, momentum, threshold):
        self.noise = momentum, threshold

    def next(self):
        return self.noise


def _standard_path(d=2, b=3):
    start = Independent(Normal(torch.ones(b, d), 2.0), 1)
    joint = Independent(Normal(torch.zeros(d), 1.0), 1)
    return Path(lambda z: joint.log_prob(z), start, joint.support)


def test_a_transition_leaves_its_density_alone():
    """At beta = 1 that is N(0, I): mean, variance and fourth moment after ten moves from an exact draw."""
    path, n = _standard_path(2, 20), 4000
    noise = Noise(NoiseKeys(torch.arange(20), 0, "t"), n, torch.Size([2]), torch.zeros(()))
    point = path.at(torch.randn(n, 20, 2))
    for _ in range(10):
        point, _ = transition(path, point, 1.0, torch.full((20,), 0.9), torch.ones(20, 2), noise, 3)
    u = point.u.flatten()
    assert_mean(u, 0.0, detects=0.05)
    assert_mean(u.square(), 1.0, detects=0.05)
    assert_mean(u**4, 3.0, detects=0.3)


def test_leapfrog_is_reversible_and_keeps_volume():
    path = _standard_path()
    start = path.at(torch.randn(1, 3, 2))
    momentum = torch.randn(1, 3, 2)
    accept = torch.full((1, 3), -torch.inf)
    step, scale = torch.tensor([0.1, 0.3, 0.5]), torch.rand(3, 2) + 0.5
    there, rate = transition(path, start, 0.6, step, scale, Given(momentum, accept), 5)
    q, p, stride = start.u, momentum, step.view(-1, 1) * scale
    for _ in range(5):
        p = p + stride / 2 * path.at(q).pull(0.6)
        q = q + stride * p
        p = p + stride / 2 * path.at(q).pull(0.6)
    torch.testing.assert_close(there.u, q)
    energy = lambda q, p: path.at(q).log_f(0.6) - p.square().sum(-1) / 2  # noqa: E731
    torch.testing.assert_close(rate, (energy(q, p) - energy(start.u, momentum)).clamp_max(0).exp())
    back, _ = transition(path, there, 0.6, step, scale, Given(-p, accept), 5)
    torch.testing.assert_close(back.u, start.u)


def test_a_refused_move_stays():
    path = _standard_path()
    start = path.at(torch.randn(1, 3, 2))
    never = torch.full((1, 3), torch.inf)
    stays, _ = transition(path, start, 0.6, torch.ones(3), torch.ones(3, 2), Given(torch.randn(1, 3, 2), never), 2)
    for before, after in zip(start, stays, strict=True):
        assert torch.equal(before, after)


def test_a_start_without_a_deviation_moves_no_generator():
    """Its scale is one; finding out the dtype draws nothing from the stream of the caller."""
    known = boxed()
    state = torch.get_rng_state()
    AIS(2, 2, 2).annealed(Rows(known.target, known.x))
    assert torch.equal(torch.get_rng_state(), state)


def test_bounded_z_carries_its_jacobian():
    """log p(x, T(u)) + log |T'(u)| integrates over u to p(x)."""
    known = boxed()
    path = Path(lambda z: known.target.log_joint(known.x, z), known.target.q(known.x), known.target.prior.support)
    u = torch.linspace(-30, 30, 20_001)
    point = path.at(u.view(-1, 1, 1).expand(-1, 4, 1))
    area = torch.trapezoid(point.log_joint.exp(), u, dim=0).log()
    torch.testing.assert_close(area, known.log_px, rtol=0, atol=1e-6)
    torch.testing.assert_close(path.place(path.constrained(point.u)[0][9000:11000]).u, point.u[9000:11000])


def test_step_sizes_are_frozen_before_the_run_that_counts():
    """The forward run may not touch them; and they come from noise of their own."""
    target, x, _, _ = linear_gaussian(2, 4, 5)
    annealed = Annealed(Rows(target, x), Rows(target, x).q, [i / 40 for i in range(41)], 8, 3)
    steps = annealed.tune()
    before = steps.clone()
    first, rate = annealed.forward(steps)
    assert torch.equal(steps, before)
    again, _ = annealed.forward(steps)
    assert torch.equal(first, again)
    assert steps.shape == (41, 5)
    assert (rate > 0.5).all()
    doubled, _ = annealed.forward(2 * steps)
    assert not torch.equal(first, doubled)
    assert not torch.equal(annealed.begin("tune")[0].u, annealed.begin("forward")[0].u)


@pytest.mark.parametrize(("model", "step"), [("a q too narrow", 0.3), ("a q too wide", 0.6), ("a box", 0.2)])
def test_chains_without_rejections_have_weights_with_the_mean_of_the_evidence(model, step):
    """For any step size: a leapfrog step keeps volume, and momenta before and after it take the rejection's place."""
    if model == "a box":
        known, n = boxed(), 7000
        target, x, truth = known.target, known.x[:1].expand(n, *known.x.shape[1:]), known.log_px[0]
    else:
        target, x, _, truth = linear_gaussian(2, 4, 7000, width=0.8 if "narrow" in model else 1.5)
    rows = Rows(target, x)
    annealed = Annealed(rows, rows.q, [t / 8 for t in range(9)], 8, 1)
    assert_mean((annealed.unadjusted(step) - truth).exp().mean(0), 1.0, detects=0.02)


def test_paths_run_from_nought_to_one():
    for start in ("q", "prior"):
        for one in (AIS, BDMC):
            betas = one(7, start=start).betas()
            assert betas[0] == 0
            assert betas[-1] == pytest.approx(1)
            assert all(a < b for a, b in pairwise(betas))
