"""The best member of a variational family for each datum, by local optimisation."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    ComposeTransform,
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    TransformedDistribution,
)

from taut.distributions.from_noise import FromNoise
from taut.errors import UserError
from taut.evidence.base import count
from taut.evidence.hmc import NO_GRADIENT
from taut.evidence.rows import Rows
from taut.functional.precision import in_double
from taut.functional.sampling import NoiseKeys
from taut.model.q.base import Amortised

AT_ONCE = {"cpu": 1024, "cuda": 65536}
"""Rows of log p(x, z) with a graph that are held at once; ``network=resnet`` takes 4.5 GB for 2048 of 28 x 28."""


@dataclass(frozen=True)
class Family:
    """A variational family as its parameters and what they stand for.

    Args:
        distribution: From parameters ``[b, p]`` to q with batch ``(b,)``.
        parameters: The encoder: from x ``[b, *x]`` to parameters ``[b, p]``.
    """

    distribution: Callable[[Tensor], Distribution]
    parameters: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, q: object) -> "Family | None":
        """The family of an amortised q of this package; ``None`` for a q without parameters that a gradient finds."""
        if not isinstance(q, Amortised) or q.joint.prior.factored:
            return None
        return cls(lambda parameters: in_double(q.distribution(parameters)), q.parameters_of)


@dataclass(frozen=True)
class Search:
    """Search for the best member: Adam with a cosine rate, a fixed number of steps for every datum.

    Steps that stop when a batch has settled would make the result of one datum depend on the others. As it is only
    rounding does: about 1e-13 nats in float64, 1e-6 in float32, which the search does not amplify.

    Args:
        steps: Number of steps.
        samples: Draws of each step, in antithetic pairs.
        lr: First learning rate.

    Raises:
        UserError: If steps or samples are too few.
    """

    steps: int = 500
    samples: int = 16
    lr: float = 0.05

    def __post_init__(self) -> None:
        count("gap.steps", self.steps, 8)
        if count("gap.samples", self.samples, 2) % 2:
            raise UserError(f"gap.samples must be even, because draws come in antithetic pairs, got {self.samples}.")

    def run(self, rows: Rows, family: Family, start: Float[Tensor, "b p"], purpose: str) -> Float[Tensor, "b p"]:
        """The mean of the parameters over the last quarter of the steps, for each datum."""
        size = max(1, AT_ONCE.get(start.device.type, AT_ONCE["cpu"]) // self.samples)
        parts = []
        for first in range(0, len(rows), size):
            some = slice(first, first + size)
            parts.append(self._part(rows.part(some), family, start[some], purpose))
        return torch.cat(parts)

    def _part(self, rows: Rows, family: Family, start: Tensor, purpose: str) -> Tensor:
        current = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([current], lr=self.lr)
        noise = Antithetic(rows.keys.for_purpose(purpose), self.samples, start)
        last = range(3 * self.steps // 4, self.steps)
        mean = torch.zeros_like(start, dtype=torch.float64)
        for step in range(self.steps):
            optimizer.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2
            # not backward(), which would leave gradients on the parameters of the model
            (current.grad,) = torch.autograd.grad(self._loss(rows, family, current, noise), current)
            optimizer.step()
            rows.tick((step + 1) / self.steps)
            if step in last:
                mean += current.detach()
        return (mean / len(last)).to(start)

    def _loss(self, rows: Rows, family: Family, parameters: Tensor, noise: "Antithetic") -> Tensor:
        """Minus the ELBO, summed over data; its gradient reaches q through z alone (Roeder et al., 2017)."""
        # the caller's exact arithmetic has switched gradients off
        with torch.enable_grad():
            q = family.distribution(parameters)
            z = reparameterised(q, noise.next(noise_shape(q)))
            # a flow knows the density of its draws without this second pass, which is a third of a step; but the
            # gradient then has the noise of q's score, and a search takes twice the steps to get as far
            log_q = family.distribution(parameters.detach()).log_prob(z)
            log_p = rows.target.log_joint(rows.x, z)
            if not log_p.requires_grad:
                raise UserError(NO_GRADIENT)
            return -(log_p - log_q).mean(0).sum()


class Antithetic:
    """Standard normal noise and its mirror image, keyed by datum.

    Args:
        keys: One stream for each datum.
        samples: Number of draws of each step, an even one.
        like: A tensor whose dtype and device the noise takes.
    """

    def __init__(self, keys: NoiseKeys, samples: int, like: Tensor) -> None:
        self.generators = keys.generators(like.device)
        self.samples, self.like = samples, like

    def next(self, z_shape: torch.Size) -> Float[Tensor, "k b *z"]:
        """The noise of the next step."""
        kind = {"dtype": self.like.dtype, "device": self.like.device}
        half = torch.stack(
            [torch.randn((self.samples // 2, *z_shape), generator=g, **kind) for g in self.generators], 1
        )
        return torch.cat([half, -half])


def noise_shape(q: Distribution) -> torch.Size:
    """Shape of the standard normal noise that one draw of q is made of."""
    return torch.Size([q.per_coordinate * q.event_shape[0]]) if isinstance(q, FromNoise) else q.event_shape


def reparameterised(q: Distribution, noise: Float[Tensor, "k b *n"]) -> Float[Tensor, "k b *z"]:
    """Draws of q made of given standard normal noise of shape :func:`noise_shape`.

    Raises:
        UserError: If q is neither a Gaussian, nor says how noise makes its draws, nor one of these carried on by
            transforms.
    """
    if isinstance(q, FromNoise):
        return q.from_noise(noise)
    if isinstance(q, TransformedDistribution):
        carried = ComposeTransform(q.transforms)(reparameterised(q.base_dist, noise))
        assert carried is not None
        return carried
    if isinstance(q, Independent):
        return reparameterised(q.base_dist, noise)
    if isinstance(q, Normal):
        return q.loc + q.scale * noise
    if isinstance(q, (MultivariateNormal, LowRankMultivariateNormal)):
        # sums of unlike precisions are promoted, matrix products refused
        return q.loc + (q.scale_tril @ noise.to(q.loc.dtype).unsqueeze(-1)).squeeze(-1)
    raise UserError(
        f"The best member of q cannot be searched for: it is a {type(q).__name__}, and only Gaussians, Student's t, "
        "mixtures, flows and their transforms are known; set gap.apart=false."
    )
