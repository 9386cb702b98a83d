r"""How many draws each datum needs for a bracket of $\log p(x)$ of a stated width, at the lowest cost.

Weights of mean p(x) and relative variance v make, of K draws, a lower and an upper bound that lie $v / 2K$ below and
above $\log p(x)$ to first order (:func:`taut.functional.bounds.iwae` and
:func:`taut.functional.bounds.leave_one_out_upper`), each with a noise of variance $v / K$. Bias does not average out
over data, noise does. Both are functions of the *spread* $s = \frac1n \sum_i v_i / K_i$ alone.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from taut.functional.types import PerDatum

HALVINGS = 100
"""Of the interval that holds the multiplier: more than float64 can tell apart."""


def spread_within(tolerance: float, quantile: float, n: int = 1) -> float:
    r"""The spread at which $q \sqrt{s / n} + s / 2$, half of the bracket with its noise, is the tolerance.

    Args:
        tolerance: Nats above 0.
        quantile: q, the standard errors on either side.
        n: Number of data whose mean is bracketed.

    >>> s = spread_within(0.05, 1.96, n=100)
    >>> round(1.96 * (s / 100) ** 0.5 + s / 2, 9)
    0.05
    """
    noise = quantile / math.sqrt(n)
    # the root of s / 2 + q sqrt(s / n) - tolerance, in the form that does not cancel where the noise is large
    return (2 * tolerance / (noise + math.sqrt(noise**2 + 2 * tolerance))) ** 2


def allocate(
    variance: PerDatum,
    cost: PerDatum,
    spread: float,
    *,
    least: PerDatum,
    most: PerDatum,
) -> Float[Tensor, " n"]:
    r"""The cheapest sizes $K_i$ whose spread is at most ``spread``; the largest there are where none suffice.

    $\sum_i c_i K_i$ is smallest, given $\sum_i v_i / K_i$, at $K_i \propto \sqrt{v_i / c_i}$ (Neyman, 1934), cut off
    where a size is below ``least`` or above ``most``; the others make up for those cut off.

    Args:
        variance: Relative variance v of a weight of each datum.
        cost: Cost c of a draw of each datum, above 0.
        spread: $\frac1n \sum_i v_i / K_i$ asked for, above 0.
        least: Draws that each datum gets, above 0.
        most: Draws that each datum gets at most, ``least`` or more.

    Returns:
        Sizes, not rounded.
    """
    shape = (variance / cost).sqrt()

    def sizes(multiplier: float) -> Tensor:
        return torch.minimum(torch.maximum(multiplier * shape, least), most)

    # where every datum with noise has all that it may get
    low, high = 0.0, torch.where(shape > 0, most / shape, 0.0).amax().item()
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if (variance / sizes(middle)).mean() > spread else (low, middle)
    return sizes(high)


def rounded(sizes: Float[Tensor, " n"], unit: int | Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The next sizes above that are multiples of ``unit`` and come in at most eight kinds between two powers of 2.

    Data of one size are drawn for together, and 12% more draws cost less than a call for each datum.
    """
    step = torch.exp2(sizes.clamp_min(1).log2().floor() - 3).clamp_min(1)
    step = (step / unit).ceil() * unit
    return ((sizes / step).ceil() * step).long()
