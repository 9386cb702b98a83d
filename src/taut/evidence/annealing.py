"""The machinery of annealed importance sampling, forwards and backwards."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from taut.distributions.bits import SUMMED, Bits
from taut.distributions.categories import Categories
from taut.errors import UserError
from taut.evidence.base import Evidence, count
from taut.evidence.hmc import Noise, Path, Point, kinetic, transition
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.target import Target
from taut.functional import seeding
from taut.functional.precision import refuse_degenerate
from taut.functional.sampling import Proposal
from taut.functional.types import LogWeights, PerDatum
from taut.model.draws import draw_seeded

TARGET, RATE, FIRST = 0.65, 0.5, 0.3
"""Acceptance aimed at, speed of adaptation in log step size, and the first step size."""
TUNED_EVERY = 4
"""The tuning run takes one of so many steps of the path."""
STEEP = 4.0
PERSISTENCE = 0.9
"""Part of a momentum that the next unadjusted step keeps."""
AT_ONCE = {"cpu": 256, "cuda": 2048}
"""Chains that walk at once: always so many, because HMC amplifies the rounding of calls of another shape to nats."""


class Annealed:
    r"""The machinery of AIS and its reverse: a path, and step sizes tuned for it in a run of its own and then frozen.

    Step sizes that adapt inside the evaluated run would break the invariance of its transitions, and with it the bound.
    They are tuned for each datum alone, so that no value depends on batch mates.

    Args:
        rows: Data, a batch.
        proposal: The distribution at beta = 0.
        betas: The path, from 0 to 1.
        chains: Number of chains of each datum.
        leapfrog: Leapfrog steps of each transition.
    """

    def __init__(self, rows: Rows, proposal: Proposal, betas: Sequence[float], chains: int, leapfrog: int) -> None:
        start = proposal(slice(0, len(rows)))
        refuse_degenerate(start, "The distribution that annealing starts from")
        support = rows.target.prior.support if rows.target.prior is not None else start.support
        assert support is not None
        self.rows, self.proposal, self.betas, self.chains, self.leapfrog = rows, proposal, betas, chains, leapfrog
        self.path = Path(lambda z: rows.target.log_joint(rows.x, z), start, support)
        # where no standard deviation is known, the scale takes a draw
        with seeding.forked(rows.x.device):
            self.scale = self.path.scale()
        self.moves, self.moved = len(betas[::TUNED_EVERY]) + len(betas) - 2, 0

    def tune(self) -> Tensor:
        """Step sizes ``[len(betas), b]``, from a run with noise of its own."""
        step = torch.full((len(self.rows),), FIRST, dtype=self.scale.dtype, device=self.scale.device)
        (point, _), source = self.begin("tune"), self.noise("tune")
        steps = []
        for beta in self.betas[::TUNED_EVERY]:
            point, accepted = self._move(point, beta, step, source)
            step = step * (RATE * (accepted.mean(0).to(step) - TARGET)).exp()
            steps.append(step)
        return torch.stack(steps).repeat_interleave(TUNED_EVERY, 0)[: len(self.betas)]

    def begin(self, purpose: str) -> tuple[Point, LogWeights]:
        """Chains drawn from the starting distribution, and the log-density they were drawn with.

        Each datum has a proposal of its own, whose parameters differ from those of the whole batch, which the path
        starts at, by the roundings of a network; for a narrow q that is another distribution, so the ratio of both
        belongs to the weights.
        """
        seeds = self.rows.keys.for_purpose(f"anneal/{purpose}/start").seeds()
        with seeding.forked(self.rows.x.device):
            draws = [self._first(i, seed) for i, seed in enumerate(seeds)]
        z, log_drawn = (torch.cat(parts, 1) for parts in zip(*draws, strict=True))
        point = self.path.place(z)
        return point, log_drawn + self.path.volume(point)

    def noise(self, purpose: str) -> Noise:
        """The noise of a run."""
        keys = self.rows.keys.for_purpose(f"anneal/{purpose}")
        return Noise(keys, self.chains, self.path.start.event_shape, self.scale)

    def forward(self, steps: Tensor) -> tuple[LogWeights, PerDatum]:
        """Log-weights of chains from beta = 0 to 1, and their acceptance."""
        point, log_drawn = self.begin("forward")
        log_w, rate = self._run(point, range(1, len(self.betas)), 1, steps, "forward")
        return log_w + (point.log_start - log_drawn), rate

    def unadjusted(self, step: float) -> LogWeights:
        r"""Log-weights ``[chains, b]`` of chains whose moves are never rejected; their mean is p(x) for any step size.

        Unadjusted Hamiltonian annealing (Geffner & Domke, 2021; Zhang et al., 2021): a leapfrog step keeps the volume
        of positions and momenta, so the densities of a momentum before and after it take the place of the rejection,

        $$\log w = \log p(x, z_T) - \log q(z_0) + \tfrac12 \sum_t \big( |v_t|^2 - |v_t'|^2 \big).$$

        T + 1 gradients for T steps, and no tuning run: with few steps much cheaper than :meth:`forward`.

        Args:
            step: Step size, in units of the scale.
        """
        point, log_drawn = self.begin("unadjusted")
        source = self.noise("unadjusted")
        stride, fresh = step * self.scale, math.sqrt(1 - PERSISTENCE**2)
        momentum = source.next()[0]
        log_w = -log_drawn
        for t, (before, after) in enumerate(pairwise(self.betas)):
            beta = (before + after) / 2
            if t:
                momentum = PERSISTENCE * momentum + fresh * source.next()[0]
            log_w = log_w + kinetic(momentum)
            momentum = momentum + stride / 2 * point.pull(beta)
            point = self.path.at(point.u + stride * momentum)
            momentum = momentum + stride / 2 * point.pull(beta)
            log_w = log_w - kinetic(momentum)
            self.rows.tick((t + 1) / (len(self.betas) - 1))
        # false for NaN: a chain that left the world has no weight
        log_w = log_w + point.log_joint
        return torch.where(log_w < torch.inf, log_w, -torch.inf)

    def reverse(self, steps: Tensor, z: Tensor) -> tuple[LogWeights, PerDatum]:
        """Log-weights of chains from one exact draw of the posterior back to beta = 0: unbiased for 1/p(x)."""
        point = self.path.place(z.expand(self.chains, *z.shape))
        return self._run(point, range(len(self.betas) - 1, 0, -1), -1, steps, "reverse")

    def _move(self, point: Point, beta: float, step: PerDatum, source: Noise) -> tuple[Point, LogWeights]:
        self.moved += 1
        self.rows.tick(min(1.0, self.moved / max(self.moves, 1)))
        return transition(self.path, point, beta, step, self.scale, source, self.leapfrog)

    def _first(self, i: int, seed: int) -> tuple[Tensor, Tensor]:
        q = self.proposal(slice(i, i + 1))
        z = draw_seeded(q, self.chains, seed, self.rows.x.device)
        return z, q.log_prob(z)

    def _run(self, point: Point, stages: range, sign: int, steps: Tensor, purpose: str) -> tuple[LogWeights, PerDatum]:
        source = self.noise(purpose)
        log_w = torch.zeros_like(point.log_joint, dtype=torch.float64)
        rates = []
        for t in stages:
            rise = self.betas[t] - self.betas[t - 1]
            # in float64, because T small terms add up
            log_w += sign * rise * (point.log_joint.double() - point.log_start.double())
            # a move after the last term would change no weight
            if t != stages[-1]:
                to = t if sign > 0 else t - 1
                point, accepted = self._move(point, self.betas[to], steps[to], source)
                rates.append(accepted.mean(0).double())
        rate = torch.stack(rates).mean(0) if rates else torch.full_like(log_w[0], torch.nan)
        return log_w, rate


class Annealing(Evidence):
    """Base class of AIS and BDMC, with the settings of the path.

    Args:
        steps: Number T of steps from the starting distribution to the posterior.
        chains: Number of independent chains of each datum.
        leapfrog: Leapfrog steps of each HMC transition.
        start: ``q``, which needs about ten times fewer steps (Wu et al., 2017), or ``prior``.

    Raises:
        UserError: If a setting is out of range; from ``check``, if z is discrete or there is no such start.
    """

    def __init__(self, steps: int = 200, chains: int = 16, leapfrog: int = 10, start: str = "q") -> None:
        self.steps = count(f"evidence.{self.name}.steps", steps)
        self.chains = count(f"evidence.{self.name}.chains", chains)
        self.leapfrog = count(f"evidence.{self.name}.leapfrog", leapfrog)
        if start not in ("q", "prior"):
            raise UserError(f"evidence.{self.name}.start={start!r} is not known; choose q or prior.")
        self.start = start

    @property
    def cost(self) -> float:
        return 3.0 * self.steps * self.leapfrog * self.chains

    def check(self, target: Target) -> None:
        super().check(target)
        if isinstance(target.prior, Bits):
            raise UserError(
                f"evidence={self.name} moves z along gradients, but z is binary here; use evidence=importance and "
                f"struski, or evidence=exact with at most {SUMMED} bits, which sums over them."
            )
        if isinstance(target.prior, Categories):
            raise UserError(
                f"evidence={self.name} moves z along gradients, but z is made of categories here; use "
                "evidence=importance and struski, or evidence=exact where they have at most "
                f"{2**SUMMED:,} values together, which sums over them."
            )
        if target.discrete:
            raise UserError(
                f"evidence={self.name} moves z along gradients, but z is a category here; use evidence=exact, which "
                "sums over it."
            )
        if self.start == "prior" and target.prior is None:
            raise UserError(f"evidence.{self.name}.start=prior needs the prior; give Target(prior=...), or start=q.")

    def betas(self) -> list[float]:
        """The path: even from q; from the prior, where both ends are steep, along a sigmoid (Grosse et al., 2015)."""
        even = [t / self.steps for t in range(self.steps + 1)]
        if self.start == "q":
            return even
        bent = [1 / (1 + math.exp(STEEP * (1 - 2 * beta))) for beta in even]
        return [(beta - bent[0]) / (bent[-1] - bent[0]) for beta in bent]

    def annealed(self, rows: Rows) -> Annealed:
        """The machinery for a batch; at equal steps the same as its counterpart's, step sizes included."""
        prior = rows.target.prior
        proposal = rows.q
        if self.start == "prior":
            assert prior is not None
            proposal = lambda some: prior.expand((some.stop - some.start,))  # noqa: E731
        return Annealed(rows, proposal, self.betas(), self.chains, self.leapfrog)

    def estimate(self, rows: Rows) -> LogEvidence:
        size = max(1, AT_ONCE.get(rows.x.device.type, AT_ONCE["cpu"]) // self.chains)
        groups = [rows.part(slice(first, first + size)) for first in range(0, len(rows), size)]
        return LogEvidence.cat([self.part(group.padded(size)) for group in groups]).select(
            torch.arange(len(rows), device=rows.x.device)
        )

    @abstractmethod
    def part(self, rows: Rows) -> LogEvidence:
        """The estimate of a group of data, as many in every call."""
