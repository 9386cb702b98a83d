"""The middle and the unit of every column, in which a table is like any other, whatever it was measured in."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from taut.functional.missing import observed

ROWS = 2**16
"""Rows of which copies are held at once."""


class Units(NamedTuple):
    r"""$x = \bar x + u \odot y$, in float64: an offset that is large beside a column's spread takes no digit of y.

    Args:
        centre: $\bar x$.
        unit: u, above 0.
    """

    centre: Float[Tensor, " d"]
    unit: Float[Tensor, " d"]

    def inside(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The y of some rows x, in units of their columns."""
        return (x - self.centre).div_(self.unit)

    def outside(self, y: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """The x of some rows y, in units of the data."""
        return self.centre + self.unit * y

    def log_volume(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        r"""$\sum \log u$ over the observed cells: the log-density of x is that of y minus this."""
        return (observed(x) * self.unit.log()).sum(-1)


def measured(x: Float[Tensor, "n d"], *, common: bool = False) -> tuple[Units, Bool[Tensor, " d"]]:
    """Mean and standard deviation of the observed cells of each column, and which columns have one value.

    The unit of such a column is 1.

    Args:
        x: Data; every column is observed somewhere.
        common: One unit for all columns, the root of their mean variance.
    """
    parts, (low, high) = x.split(ROWS), _range(x)
    n = observed(x).sum(0)
    # relative to a value in the middle: sums of x itself would lose what an offset outweighs
    centre = low + sum((part.double() - low).nansum(0) for part in parts) / n
    constant = low == high
    # the mean of equal numbers can be off by a rounding
    centre = torch.where(constant, low, centre)
    variance = sum((part.double() - centre).square().nansum(0) for part in parts) / n
    variance = variance.mean().expand_as(variance) if common else variance
    return Units(centre, torch.where(variance > 0, variance, 1.0).sqrt()), constant


def _range(x: Tensor) -> tuple[Tensor, Tensor]:
    """Least and largest observed value of each column."""
    low = torch.stack([part.nan_to_num(torch.inf).amin(0) for part in x.split(ROWS)]).amin(0)
    high = torch.stack([part.nan_to_num(-torch.inf).amax(0) for part in x.split(ROWS)]).amax(0)
    return low.double(), high.double()
