"""Hamiltonian Monte Carlo along a geometric path, for many data and chains at once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, biject_to, constraints
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint

from taut.errors import UserError
from taut.evidence.target import innermost
from taut.functional.sampling import NoiseKeys
from taut.functional.types import LogWeights, PerDatum

NO_GRADIENT = (
    "log_joint(x, z) passes no gradient to z, and moving z needs it; take no_grad and detach out of log_joint, or use "
    "an estimator without gradients such as importance."
)
AT_ONCE = 32
"""Transitions whose noise is drawn in one go."""


class Point(NamedTuple):
    """Positions of the chains, with the densities and gradients of both ends of the path.

    Args:
        u: Unconstrained z, ``[m, b, *z]``.
        log_start: Log-density of the starting distribution, ``[m, b]``.
        log_joint: log p(x, z), ``[m, b]``.
        pull_start: Gradient of the first.
        pull_joint: Gradient of the second.
    """

    u: Float[Tensor, "m b *z"]
    log_start: LogWeights
    log_joint: LogWeights
    pull_start: Float[Tensor, "m b *z"]
    pull_joint: Float[Tensor, "m b *z"]

    def log_f(self, beta: float) -> LogWeights:
        """Log-density of the path at beta."""
        return (1 - beta) * self.log_start + beta * self.log_joint

    def pull(self, beta: float) -> Float[Tensor, "m b *z"]:
        """Its gradient."""
        return (1 - beta) * self.pull_start + beta * self.pull_joint

    def where(self, keep: Float[Tensor, "m b"] | Tensor, other: "Point") -> "Point":
        """This point in the chains that ``keep`` it, the other one in the rest."""
        wide = keep.view(*keep.shape, *[1] * (self.u.dim() - 2))
        pairs = zip(self, other, strict=True)
        return Point(*(torch.where(keep if mine.dim() == 2 else wide, mine, theirs) for mine, theirs in pairs))


class Path:
    r"""$f_\beta(z) = \pi_0(z)^{1-\beta}\, p(x, z)^\beta$, in coordinates u without bounds.

    Where z has bounds, $z = T(u)$ and both densities carry $\log |\det T'(u)|$.

    Args:
        log_joint: From z ``[m, b, *z]`` to ``[m, b]``.
        start: $\pi_0$, batch ``(b,)``.
        support: Where z lives.
    """

    def __init__(self, log_joint: Callable[[Tensor], Tensor], start: Distribution, support: Constraint) -> None:
        self.log_joint, self.start = log_joint, start
        # biject_to knows no transform for the constraint of a mixture
        if isinstance(support, MixtureSameFamilyConstraint):
            support = support.base_constraint
        self.free = innermost(support) in (constraints.real, constraints.real_vector)
        self.transform = biject_to(support)

    def constrained(self, u: Float[Tensor, "m b *z"]) -> tuple[Tensor, Tensor | float]:
        """Z and the log-determinant that its densities gain."""
        if self.free:
            return u, 0.0
        z = self.transform(u)
        volume = self.transform.log_abs_det_jacobian(u, z)
        return z, volume.flatten(2).sum(2) if volume.dim() > 2 else volume

    def volume(self, point: Point) -> Float[Tensor, "m b"] | float:
        """The log-determinant that densities of z gain at a point."""
        return self.constrained(point.u)[1]

    def at(self, u: Float[Tensor, "m b *z"]) -> Point:
        """Both log-densities and their gradients."""
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            z, volume = self.constrained(u)
            log_start = self.start.log_prob(z) + volume
            log_joint = self.log_joint(z) + volume
            if not log_joint.requires_grad:
                raise UserError(NO_GRADIENT)
            # retained, because both densities share the graph of the transform
            (pull_joint,) = torch.autograd.grad(log_joint.sum(), u, retain_graph=True)
            (pull_start,) = torch.autograd.grad(log_start.sum() + 0 * u.sum(), u)  # also where it is flat
        return Point(u.detach(), log_start.detach(), log_joint.detach(), pull_start, pull_joint)

    def place(self, z: Float[Tensor, "m b *z"]) -> Point:
        """The point of a given z."""
        return self.at(z if self.free else self.transform.inv(z))

    def scale(self) -> Tensor:
        """A length for each coordinate: the standard deviation of the starting distribution where z is free."""
        ones = torch.ones((*self.start.batch_shape, *self.start.event_shape))
        try:
            return self.start.stddev if self.free else ones.to(self.start.sample())
        except NotImplementedError:
            # torch raises where a distribution knows no standard deviation
            return ones.to(self.start.sample())


class Noise:
    """Momenta and acceptance thresholds of every transition, keyed by datum.

    Args:
        keys: One stream for each datum.
        chains: Number of chains m.
        z_shape: Shape of one z.
        like: A tensor whose dtype and device the noise takes.
    """

    def __init__(self, keys: NoiseKeys, chains: int, z_shape: torch.Size, like: Tensor) -> None:
        self.generators = keys.generators(like.device)
        self.chains, self.z_shape, self.like = chains, z_shape, like
        self._left: list[tuple[Tensor, Tensor]] = []

    def next(self) -> tuple[Float[Tensor, "m b *z"], LogWeights]:
        """Standard normal momenta, and logs of uniforms."""
        if not self._left:
            kind = {"dtype": self.like.dtype, "device": self.like.device}
            size = (AT_ONCE, self.chains)
            # a generator for each datum, so that no noise depends on batch mates
            momenta = [torch.randn((*size, *self.z_shape), generator=g, **kind) for g in self.generators]
            uniforms = [torch.rand(size, generator=g, **kind) for g in self.generators]
            self._left = list(zip(torch.stack(momenta, 2), torch.stack(uniforms, 2).log(), strict=True))
        return self._left.pop()


def transition(
    path: Path,
    point: Point,
    beta: float,
    step: PerDatum,
    scale: Float[Tensor, "b *z"],
    noise: Noise,
    leapfrog: int,
) -> tuple[Point, LogWeights]:
    """One HMC transition that leaves the path at beta invariant (Duane et al., 1987; Neal, 2011).

    Args:
        path: The path.
        point: Where the chains stand.
        beta: Where on the path.
        step: Step size of each datum, in units of ``scale``.
        scale: Length of each coordinate; its inverse square is the mass.
        noise: Momenta and thresholds.
        leapfrog: Number of leapfrog steps L.

    Returns:
        Where the chains stand now, and the acceptance probability of each, ``[m, b]``.
    """
    momentum, threshold = noise.next()
    stride = step.view(-1, *[1] * (scale.dim() - 1)) * scale
    before = point.log_f(beta) - kinetic(momentum)
    now = point
    momentum = momentum + stride / 2 * now.pull(beta)
    for i in range(leapfrog):
        now = path.at(now.u + stride * momentum)
        momentum = momentum + (stride if i < leapfrog - 1 else stride / 2) * now.pull(beta)
    log_ratio = now.log_f(beta) - kinetic(momentum) - before
    accepted = threshold < log_ratio  # false for NaN: a chain that left the world stays where it was
    return now.where(accepted, point), log_ratio.nan_to_num(nan=-torch.inf).clamp_max(0).exp()


def kinetic(momentum: Float[Tensor, "m b *z"]) -> LogWeights:
    """Kinetic energy of standard normal momenta, ``[m, b]``."""
    return momentum.flatten(2).square().sum(2) / 2
