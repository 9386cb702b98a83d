"""Integrals over one or two dimensions by Gauss-Legendre rules on cells that are halved where they are unsettled.

A rule on a grid sees nothing of a peak between its nodes. So the first grid is refined around *marks*, places where the
integrand may have a peak and how wide it may be there (:mod:`taut.evidence.peaks`), before anything is integrated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taut.functional import bounds

LogDensity = Callable[[Tensor], Tensor]
"""From points ``[n, d]`` to ``[n]``."""

NODES = {1: 16, 2: 8}
CELLS = {1: 32, 2: 16}
AT_ONCE = 4096
MOST_CELLS = {1: 8192, 2: 32768}
REACH, RESOLVED = 5.0, 2.5
"""Cells within so many scales of a mark are at most so many scales wide."""
STEEP = 8.0
"""Nats between neighbouring nodes above which a cell is not resolved, whatever its halves add up to."""


@dataclass(frozen=True)
class Marks:
    """Places where an integrand may have peaks.

    Args:
        centre: Their places.
        scale: Their widths along each axis, as standard deviations.
    """

    centre: Float[Tensor, "m d"]
    scale: Float[Tensor, "m d"]


@dataclass(frozen=True)
class Cells:
    r"""Boxes and what is known of $\log f$ on each, nats.

    Args:
        corner: Lower corner.
        width: Length of every side.
        total: Log of the integral over the box by the rule.
        most: About the largest integral it may have: volume times the largest value at a node, raised by the largest
            difference to a neighbouring node, about the most f can reach in between.
        steps: The largest difference between neighbouring nodes along each axis.
        error: Log of what the integral may be wrong by.
    """

    corner: Float[Tensor, "n d"]
    width: Float[Tensor, "n d"]
    total: Float[Tensor, " n"]
    most: Float[Tensor, " n"]
    steps: Float[Tensor, "n d"]
    error: Float[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.corner)

    def select(self, some: Tensor) -> "Cells":
        """Some of them."""
        return Cells(*(values[some] for values in vars(self).values()))

    def and_(self, others: "Cells") -> "Cells":
        """These and others."""
        return Cells(*(torch.cat(pair) for pair in zip(vars(self).values(), vars(others).values(), strict=True)))


def integrate(
    log_f: LogDensity,
    low: Float[Tensor, " d"],
    high: Float[Tensor, " d"],
    goal: float,
    marks: Marks,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""], Bool[Tensor, "2 d"]]:
    r"""$\log \int_{[l, h]} f(z) dz$, about by how much it may be wrong, and which ends of the box cut mass off.

    The error of a cell is by how much halving changed its integral; before it was halved once, and as long as it is too
    steep for its nodes, it is the most the cell may hold. Cells with more than their share of ``goal`` are halved until
    all errors together are within it, or there are too many cells.

    Args:
        log_f: The integrand, nats.
        low: Lower ends of the box.
        high: Upper ends.
        goal: The error to be reached, relative to the integral: nats.
        marks: Where there may be peaks.
    """
    rule, limit = _rule(len(low), low), math.log(goal)
    cells = _scored(log_f, *graded(low, high, marks), rule)
    whole, error, spent = bounds.log_sum_exp(cells.total), bounds.log_sum_exp(cells.error), len(cells)
    while error > whole + limit and spent <= MOST_CELLS[len(low)]:
        coarse = cells.error > whole + limit - math.log(2 * len(cells))  # a cell that errs by more than its share
        finer = _halved(log_f, cells.select(coarse), rule)
        cells, spent = cells.select(~coarse).and_(finer), spent + len(finer)
        whole, error = bounds.log_sum_exp(cells.total), bounds.log_sum_exp(cells.error)
    return (
        whole,
        torch.logaddexp(error - whole, torch.zeros_like(whole)),
        _cut(cells, low, high, whole + limit - math.log(2 * len(cells))),
    )


def graded(low: Float[Tensor, " d"], high: Float[Tensor, " d"], marks: Marks) -> tuple[Tensor, Tensor]:
    """Corners and widths ``[n, d]`` of a grid whose cells near a mark are no wider than the peak that may be there."""
    d = len(low)
    even = (high - low) / CELLS[d]
    ticks = torch.arange(CELLS[d], dtype=low.dtype, device=low.device)
    corner = low + torch.cartesian_prod(*[ticks] * d).view(-1, d) * even
    width = even.expand_as(corner)
    while len(corner) <= MOST_CELLS[d] // 4:
        reach = REACH * marks.scale
        near = (corner.unsqueeze(1) <= marks.centre + reach) & ((corner + width).unsqueeze(1) >= marks.centre - reach)
        split = (near.all(-1, keepdim=True) & (width.unsqueeze(1) > RESOLVED * marks.scale)).any(1)
        wide = split.any(1)
        if not wide.any():
            break
        finer, finer_width, _ = _parts(corner[wide], width[wide], split[wide])
        corner, width = torch.cat([corner[~wide], finer]), torch.cat([width[~wide], finer_width])
    return corner, width


def _halved(log_f: LogDensity, cells: Cells, rule: tuple[Tensor, Tensor]) -> Cells:
    """Halve the boxes along every axis that is about as steep as the steepest, with the errors that this shows."""
    steepest = cells.steps.amax(1, keepdim=True)
    corner, width, origin = _parts(cells.corner, cells.width, cells.steps >= steepest / 2)
    parts = _scored(log_f, corner, width, rule)
    top = bounds.log_sum_exp(parts.total)
    # relative to the largest, so that exp does not overflow
    sums = torch.zeros_like(cells.total).index_add_(0, origin, (parts.total - top).exp())
    moved = (sums - (cells.total - top).exp()).abs().log() + top
    share = moved - torch.bincount(origin, minlength=len(cells)).log()
    steep = parts.steps.amax(1) > STEEP
    error = torch.where(steep, torch.maximum(parts.most, share[origin]), share[origin])
    return Cells(parts.corner, parts.width, parts.total, parts.most, parts.steps, error)


def _parts(
    corner: Float[Tensor, "n d"], width: Float[Tensor, "n d"], split: Bool[Tensor, "n d"]
) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m d"], Int[Tensor, " m"]]:
    """Every box in halves along the axes where it is split, and which box each part is of."""
    origin = torch.arange(len(corner), device=corner.device)
    for axis in range(corner.shape[1]):
        chosen = split[origin, axis]
        # a copy, because the caller goes on with its own
        width = width.clone()
        width[chosen, axis] /= 2
        upper = corner[chosen]
        upper[:, axis] += width[chosen, axis]
        corner, width = torch.cat([corner, upper]), torch.cat([width, width[chosen]])
        origin = torch.cat([origin, origin[chosen]])
    return corner, width, origin


def _scored(log_f: LogDensity, corner: Tensor, width: Tensor, rule: tuple[Tensor, Tensor]) -> Cells:
    """The integral over each box, and the most it may be."""
    nodes, log_w = rule
    points = (corner.unsqueeze(1) + nodes * width.unsqueeze(1)).flatten(0, 1)
    values = torch.cat([log_f(part) for part in points.split(AT_ONCE)]).view(len(corner), -1)
    volume = width.log().sum(1)
    total = bounds.log_sum_exp((values + log_w).mT) + volume
    grid = values.view(len(corner), *[NODES[width.shape[1]]] * width.shape[1])
    # where f is 0 at a node there is no step to speak of: an end of its support, which halving finds
    jumps = [grid.diff(dim=axis).abs().nan_to_num(0, posinf=0).flatten(1) for axis in range(1, grid.dim())]
    steps = torch.stack([one.amax(1) for one in jumps], 1)
    most = values.amax(1) + steps.sum(1) + volume
    return Cells(corner, width, total, most, steps, error=most)


def _cut(cells: Cells, low: Tensor, high: Tensor, least: Tensor) -> Bool[Tensor, "2 d"]:
    """The ends of the box where a cell touches it that may hold more than ``least``, a log."""
    counts = cells.most > least
    corner, width = cells.corner[counts], cells.width[counts]
    return torch.stack([(corner <= low + width / 2).any(0), (corner >= high - 1.5 * width).any(0)])


def _rule(d: int, like: Tensor) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """Nodes in the unit cell and their log-weights."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES[d])
    axis = torch.as_tensor((nodes + 1) / 2, dtype=like.dtype, device=like.device)
    each = torch.as_tensor(np.log(weights / 2), dtype=like.dtype, device=like.device)
    return torch.cartesian_prod(*[axis] * d).view(-1, d), torch.cartesian_prod(*[each] * d).view(-1, d).sum(1)
