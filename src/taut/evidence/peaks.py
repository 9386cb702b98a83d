"""Possible peaks of log p(x, z) of one datum, for a quadrature over z: those of prior and q, and a search.

A grid cannot see a peak narrower than its spacing. But the components of a prior are known, draws of q and of the prior
go where the mass is, and from them a search climbs to the nearest maximum, whatever its width.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from taut.distributions.from_noise import GaussianMixture
from taut.evidence.quadrature import LogDensity, Marks
from taut.evidence.target import innermost

STARTS = 8
"""Draws, and components, from which a search starts."""
MOVES = 40
"""Steps of a search: each moves, or makes the stencil 2 to 4 times finer; 10^-9 of the first scale takes about 30."""
TINY = 1e-12
FALL, FLAT = 0.5, 0.01
"""Nats that a Gaussian falls within one standard deviation, and by which a stencil on a maximum differs in itself."""


def components_of(distribution: Distribution) -> Marks | None:
    """Mean and standard deviation of a distribution of z, of each component if it is a mixture; None if not known."""
    if isinstance(distribution, MixtureSameFamily):
        return components_of(distribution.component_distribution)
    if isinstance(distribution, GaussianMixture):
        return Marks(distribution.loc.flatten(0, -2).double(), distribution.scale.flatten(0, -2).double())
    try:
        mean, std = distribution.mean, distribution.stddev
    except NotImplementedError:
        # torch raises where a distribution knows no mean or no standard deviation
        return None
    d = distribution.event_shape.numel()
    return Marks(mean.reshape(-1, d).double(), std.reshape(-1, d).double())


def equally_weighted(distribution: Distribution) -> Distribution:
    """Give a mixture equal weights, so that draws meet a component however small its weight; others as is."""
    if not isinstance(distribution, MixtureSameFamily):
        return distribution
    weights = Categorical(logits=torch.zeros_like(distribution.mixture_distribution.logits), validate_args=False)
    return MixtureSameFamily(weights, distribution.component_distribution, validate_args=False)


def marked(
    log_f: LogDensity,
    distributions: Sequence[Distribution],
    draws: Sequence[tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]],
    ends: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
) -> Marks:
    r"""Every place where there may be a peak: what distributions of z say of themselves, and the maxima near by.

    Searches start from the components where f is largest, and from draws: the best of each of some groups of them, not
    the best of all, which may lie on one peak.

    Args:
        log_f: $\log p(x, z)$ of one datum.
        distributions: Distributions of z that know something of the posterior.
        draws: Draws and the values of ``log_f`` there.
        ends: The ends of the support of z.
    """
    known = [one for one in map(components_of, distributions) if one is not None]
    starts = [_best(one, log_f) for one in known]
    for z, values in draws:
        best = torch.stack([one[at.argmax()] for one, at in zip(z.chunk(STARTS), values.chunk(STARTS), strict=True)])
        # equal draws have no spread, but a stencil needs a width
        starts.append(Marks(best, z.std(0).clamp_min(TINY).expand_as(best)))
    start = _together(starts)
    return _together([*known, climbed(log_f, start.centre, start.scale, ends)])


def _best(components: Marks, log_f: LogDensity) -> Marks:
    best = log_f(components.centre).nan_to_num(-torch.inf).argsort(descending=True)[:STARTS]
    return Marks(components.centre[best], components.scale[best])


def _together(several: Sequence[Marks]) -> Marks:
    return Marks(torch.cat([one.centre for one in several]), torch.cat([one.scale for one in several]))


def climbed(
    log_f: LogDensity,
    start: Float[Tensor, "m d"],
    scale: Float[Tensor, "m d"],
    ends: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
) -> Marks:
    """Maxima found from each start, and their widths, by a pattern search (Hooke & Jeeves, 1961).

    A stencil of five points along each axis moves to its best point. It doubles where that lies on its rim, and becomes
    2 to 4 times finer elsewhere. No gradient is needed, so a likelihood may have steps. The width along an axis is the
    smallest distance, among powers of two, at which f falls by a factor of $e^{1/2}$ on either side.
    """
    d = start.shape[1]  # the middle of the stencil comes first: where all is flat the search stays
    offsets = torch.cartesian_prod(*[torch.tensor([0.0, -1.0, -0.5, 0.5, 1.0]).to(start)] * d).view(-1, d)
    at, size = start, scale
    for _ in range(MOVES):
        points = (at.unsqueeze(1) + offsets * size.unsqueeze(1)).clamp(*ends)
        values = _valued(log_f, points)
        best = values.argmax(1)
        chosen = offsets[best].abs().amax(1, keepdim=True)
        at = points[torch.arange(len(at), device=at.device), best]
        if (values.amax(1) - values.amin(1) < FLAT).all():
            break
        size = size * torch.where(chosen == 1, 2.0, torch.where(chosen == 0, 0.25, 0.5))
    return Marks(at, _width(log_f, at, scale, ends))


def limits(prior: Distribution) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """The ends of the support of z, infinite where there is none."""
    inside = innermost(prior.support) if prior.support is not None else None
    like = torch.zeros(prior.event_shape, dtype=torch.float64)
    ends = [(getattr(inside, name, None), sign) for name, sign in (("lower_bound", -1), ("upper_bound", 1))]
    # on the CPU, because a bound may be a number or a tensor on any device
    low, high = (like + (sign * torch.inf if end is None else torch.as_tensor(end).cpu()) for end, sign in ends)
    return low, high


def _width(log_f: LogDensity, at: Tensor, scale: Tensor, ends: tuple[Tensor, Tensor]) -> Float[Tensor, "m d"]:
    powers = 2.0 ** torch.arange(4, -40, -1, dtype=at.dtype, device=at.device)
    axes = torch.eye(at.shape[1], dtype=at.dtype, device=at.device)
    distance = powers * scale.unsqueeze(-1)  # [m, d, powers]
    away = torch.stack([distance, -distance], -1).unsqueeze(-1) * axes[:, None, None]
    points = (at[:, None, None, None] + away).clamp(*ends)
    fallen = _valued(log_f, at.unsqueeze(1))[:, :, None, None] - _valued(log_f, points.flatten(1, 3)).view(
        away.shape[:-1]
    )
    return torch.where((fallen >= FALL).any(-1), distance, scale.unsqueeze(-1)).amin(-1)


def _valued(log_f: LogDensity, points: Float[Tensor, "m n d"]) -> Float[Tensor, "m n"]:
    # outside of its support a density may be NaN, and has no mass
    return log_f(points.flatten(0, 1)).view(points.shape[:2]).nan_to_num(-torch.inf)
