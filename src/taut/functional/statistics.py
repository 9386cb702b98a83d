"""Means and variances that rounding cannot spoil: the spread of equal numbers is 0, and parts merge to the whole.

$E[x^2] - E[x]^2$ leaves a residue of about $10^{-16} x^2$, whose square root looks like an error of $10^{-8} x$. Here
deviations are taken from a pivot first (Chan, Golub & LeVeque, 1983).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Moments(NamedTuple):
    """Number, mean and sum of squared deviations of some values, in float64.

    Args:
        count: How many.
        mean: Their mean.
        squares: Sum of the squares of their deviations from it.
    """

    count: Float[Tensor, ""]
    mean: Float[Tensor, "*v"]
    squares: Float[Tensor, "*v"]

    @classmethod
    def of(cls, values: Float[Tensor, "n *v"]) -> "Moments":
        """Moments of one or more values along the first axis."""
        values = values.double()
        pivot = values[0]
        stds = values - pivot
        shift = stds.mean(0)
        count = torch.tensor(float(len(values)), dtype=torch.float64, device=values.device)
        return cls(count, pivot + shift, (stds - shift).square().sum(0))

    @classmethod
    def merged(cls, parts: "Sequence[Moments]") -> "Moments":
        """Moments of the values of all parts; a part without values changes nothing."""
        first, *others = parts
        count, mean, squares = first
        for more in others:
            total = count + more.count
            # no 0 / 0 where neither part has values
            share = more.count / total.clamp_min(1)
            apart = more.mean - mean
            mean, squares = mean + share * apart, squares + more.squares + count * share * apart.square()
            count = total
        return cls(count, mean, squares)

    @property
    def variance(self) -> Float[Tensor, "*v"]:
        """Unbiased; NaN for a single value, whose spread nobody knows."""
        return self.squares / torch.where(self.count > 1, self.count - 1, torch.nan)

    @property
    def standard_error(self) -> Float[Tensor, "*v"]:
        """Standard error of the mean; NaN for a single value."""
        return (self.variance / self.count).sqrt()


def variance_of_mean(values: Float[Tensor, "n *v"]) -> Float[Tensor, "*v"]:
    """Variance of the mean along the first axis; NaN, unknown, for a single value."""
    if len(values) < 2:
        return torch.full_like(values[0], torch.nan)
    # with the first value taken off, equal numbers have a variance of exactly 0
    return (values - values[:1]).var(0) / len(values)


def standard_error(values: Float[Tensor, "*v n"]) -> Float[Tensor, "*v"]:
    """Standard error of the mean along the last axis; NaN for a single value."""
    return variance_of_mean(values.movedim(-1, 0)).sqrt()
