"""Integrals over one or two dimensions by Gauss-Legendre rules on cells that are halved where the mass is."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from taut import bounds
from taut.evidence.target import innermost

LogDensity = Callable[[Tensor], Tensor]
"""From points ``[n, d]`` to ``[n]``."""

NEGLIGIBLE = 50.0
"""Nats below the maximum where mass no longer counts: e^-50 is 2e-22."""
NODES = {1: 16, 2: 8}
CELLS = {1: 32, 2: 16}
AT_ONCE = 4096
MOST_CELLS = {1: 4096, 2: 32768}


def integrate(
    log_f: LogDensity, low: Float[Tensor, " d"], high: Float[Tensor, " d"], goal: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Bool[Tensor, "2 d"]]:
    r"""$\log \int_{[l, h]} f(z) dz$, by how much the last doubling of the resolution moved it, and which ends cut it.

    A cell counts unless even the largest value at its nodes plus the largest difference to a neighbouring node, about
    the most f can reach in between, is negligible: so a peak narrower than the first grid is not lost. All cells that
    count are halved along every axis until the integral moves by no more than ``goal``, or there are too many.
    """
    d = len(low)
    rule = _rule(d, low)
    width = (high - low) / CELLS[d]
    ticks = torch.arange(CELLS[d], dtype=low.dtype, device=low.device)
    cells = low + torch.cartesian_prod(*[ticks] * d).view(-1, d) * width
    value, counts = _level(log_f, cells, width, rule)
    first, last = cells[counts].amin(0), cells[counts].amax(0) + width
    cut = torch.stack([first <= low + width / 2, last >= high - width / 2])
    moved = torch.full_like(value, torch.inf)
    while moved > goal and counts.sum() * 2**d <= MOST_CELLS[d]:
        width = width / 2
        corners = torch.cartesian_prod(*[torch.arange(2, dtype=low.dtype, device=low.device)] * d).view(-1, d)
        cells = (cells[counts].unsqueeze(1) + corners * width).flatten(0, 1)
        finer, counts = _level(log_f, cells, width, rule)
        moved, value = (finer - value).abs(), finer
    return value, moved, cut


def start(prior: Distribution, q: Distribution) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """A first box for the mass of one datum: ten deviations of the prior and of q, within the support of z."""
    low, high = limits(prior)
    if low.isfinite().all() and high.isfinite().all():
        return low, high
    means = torch.stack([prior.mean, q.mean[0]]).double()
    reach = 10 * torch.stack([prior.stddev, q.stddev[0]]).double()
    return torch.maximum(low, (means - reach).amin(0)), torch.minimum(high, (means + reach).amax(0))


def limits(prior: Distribution) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """The ends of the support of z, infinite where there is none."""
    inside = innermost(prior.support) if prior.support is not None else None
    like = torch.zeros(prior.event_shape, dtype=torch.float64)
    ends = [(getattr(inside, name, None), sign) for name, sign in (("lower_bound", -1), ("upper_bound", 1))]
    low, high = (like + (sign * torch.inf if end is None else torch.as_tensor(end).cpu()) for end, sign in ends)
    device = prior.mean.device
    return low.to(device), high.to(device)


def _level(log_f: LogDensity, cells: Tensor, width: Tensor, rule: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The integral over the cells, and which of them count."""
    nodes, log_w = rule
    points = (cells.unsqueeze(1) + nodes * width).flatten(0, 1)
    values = torch.cat([log_f(part) for part in points.split(AT_ONCE)]).view(len(cells), -1)
    total = bounds.log_sum_exp((values + log_w).flatten()) + width.log().sum()
    grid = values.view(len(cells), *[NODES[len(width)]] * len(width))
    steps = [grid.diff(dim=axis).abs().flatten(1).amax(1) for axis in range(1, grid.dim())]
    reach = values.amax(1) + torch.stack(steps).sum(0)
    return total, reach >= values.max() - NEGLIGIBLE


def _rule(d: int, like: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """Nodes in the unit cell and their log-weights."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES[d])
    axis = torch.as_tensor((nodes + 1) / 2, dtype=like.dtype, device=like.device)
    each = torch.as_tensor(np.log(weights / 2), dtype=like.dtype, device=like.device)
    return torch.cartesian_prod(*[axis] * d).view(-1, d), torch.cartesian_prod(*[each] * d).view(-1, d).sum(1)
