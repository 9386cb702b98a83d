"""Chains that are tried on a few of the data, to be used for all that need them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import linear_regression

import torch
from jaxtyping import Int
from torch import Tensor

from taut.evidence.tolerance.method import (
    CAREFUL,
    FIRST,
    SECOND,
    SOUND,
    Method,
    Sampler,
    relative_variance,
    tail_at_most,
    tells_little,
)
from taut.evidence.weights import Weights
from taut.functional.types import LogWeights

SCOUTS, TRIED, MOST_TRIED = 16, 128, 32
"""Data on which chains are tried, their chains together, and most of each: data differ more than their chains do."""
STEPS = (16, 32, 64, 128, 256)
"""Steps of chains that are tried; those that are used lie between."""
LIGHT = 1.15
"""Standard deviation of log-weights up to which few chains of each datum have a k-hat below 0.7 together."""
STEP = 4
"""Between numbers of steps that are told apart."""
ENOUGH, REACH = 3, 2
"""Lengths that tell how the spread falls with the number of steps, and times the longest of them that others may be."""
HEAVIER = 1.5
"""Times the variance of log-normal weights that those of chains may have: their right tail is somewhat heavier."""
TINY, MOST = 1e-12, 700.0
"""Variances of log-weights that are told apart: beyond the second a weight overflows."""
SIZES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Their sizes, in units of the scale of q; the first that is tried is the one before the last two."""


@dataclass(frozen=True)
class Chains:
    """The chains that are cheapest for the data on which they were tried.

    Args:
        method: Their steps.
        variance: Relative variance of their weights.
        draws_may_do: Whether more draws of q would be cheaper for half of these data or more.
        rows: These data.
        spent: Evaluations that each of them took.
    """

    method: Method
    variance: float
    draws_may_do: bool
    rows: Int[Tensor, " m"]
    spent: float


class Scouts:
    """A few of some data, evenly spaced, on which chains are tried; the same in every process.

    Args:
        sampler: Of the data.
        rows: Which they are taken of.
        budget: Evaluations that each of them may take.
    """

    def __init__(self, sampler: Sampler, rows: Int[Tensor, " n"], budget: float) -> None:
        self.sampler, self.budget, self.left = sampler, budget, budget
        self.rows = rows[torch.linspace(0, len(rows) - 1, min(SCOUTS, len(rows))).round().long()]
        self.known = dict[Method, float]()
        self.tried = min(MOST_TRIED, TRIED // len(self.rows))

    @property
    def affordable(self) -> bool:
        """Whether the budget allows to try every step size."""
        return self.budget >= len(SIZES) * self.tried * Method(STEPS[0]).cost

    def chains(self, asked: float, averaged: int) -> Chains:
        """The cheapest chains for the data.

        The step size is that of the shortest chains whose log-weights spread least. Chains grow as long as their
        log-weights spread too far or as what the planned number of them costs falls. Weights of chains are nearly
        log-normal, so the variance of a weight follows from that of its logarithm, which a hundred chains tell to a
        seventh; weights themselves would not tell it, because rare large ones decide.

        Args:
            asked: The spread that is allowed.
            averaged: Number of data whose mean is bracketed.
        """
        size = _lowest(lambda size: self._spread(Method(STEPS[0], size)))
        spread, steps = dict[int, float](), STEPS[0]
        for longest in STEPS:
            if self.left < self.tried * Method(longest, size).cost:
                break
            spread[longest] = self._spread(Method(longest, size))
            most = _within_reach(spread)
            steps, variance = _cheapest(spread, most, size, asked, averaged)
            if len(spread) >= ENOUGH and steps < most:
                break
        method = Method(steps, size)
        cheaper = self._draws_may_do(variance * method.cost)
        return Chains(method, variance, cheaper, self.rows, self.budget - self.left + FIRST + SECOND)

    def hopeless(self) -> bool:
        """Tell whether draws of q say too little of each of the data."""
        weights = Weights(self.sampler.weights(self.rows, Method(), FIRST, "pilot/few"))
        return bool(tells_little(weights.ess, tail_at_most(weights)).all())

    def _draws_may_do(self, price: float) -> bool:
        draws = Weights(self.sampler.weights(self.rows[::2], Method(), SECOND, f"pilot/few/{SECOND}"))
        cheaper = (tail_at_most(draws) <= SOUND) & (relative_variance(draws) < price)
        return cheaper.double().mean().item() >= 0.5

    def _spread(self, method: Method) -> float:
        if method not in self.known:
            self.left -= self.tried * method.cost
            # the same noise for every size: their difference is what counts
            purpose = f"pilot/few/{method.steps}"
            self.known[method] = spread_of(self.sampler.weights(self.rows, method, self.tried, purpose, len(self.rows)))
        return self.known[method]


def _lowest(score: Callable[[float], float]) -> float:
    """The size of the lowest score, walked to from one side and then the other."""
    at = len(SIZES) - 3
    best = score(SIZES[at])
    for way in (-1, 1):
        while 0 <= at + way < len(SIZES) and (tried := score(SIZES[at + way])) < best:
            at, best = at + way, tried
    return SIZES[at]


def _within_reach(spread: Mapping[int, float]) -> int:
    """The most steps that need not be tried: where the longest that were have no light tail, twice as many as they."""
    longest = max(spread)
    beyond = len(spread) >= ENOUGH and power_law(spread, longest) > LIGHT**2
    return min(REACH * longest if beyond else longest, STEPS[-1])


def _cheapest(spread: Mapping[int, float], most: int, size: float, asked: float, averaged: int) -> tuple[int, float]:
    """Steps whose planned number of chains costs least, of those with light tails if there are such, and a variance."""
    found = []
    for steps in range(min(spread), most + 1, STEP):
        method, own = Method(steps, size), power_law(spread, steps)
        variance = variance_of(own)
        price = method.cost * max(CAREFUL * variance / asked, method.least(averaged))
        found.append((max(own, LIGHT**2), price, steps, variance))
    *_, steps, variance = min(found)
    return steps, variance


def spread_of(log_w: LogWeights) -> float:
    """Variance of log-weights, mean over the data.

    Those that lie further below the median than the largest lies above it count as if they lay as far below: they add
    nothing to a mean of weights, and a single one would rule the variance.
    """
    median = log_w.quantile(0.5, 0)
    # NaN where hardly a chain has mass: no number of chains will do
    return log_w.clamp_min(2 * median - log_w.amax(0)).var(0).mean().nan_to_num(math.inf).item()


def variance_of(spread: float) -> float:
    """Relative variance of weights of chains whose logarithms have the variance ``spread``."""
    return HEAVIER * math.expm1(min(spread, MOST))


def power_law(spread: Mapping[int, float], steps: int) -> float:
    """The spread at a number of steps, by least squares of its logarithm on theirs over the last three known."""
    known = sorted(spread.items())[-3:]
    x, y = [math.log(at) for at, _ in known], [math.log(min(max(value, TINY), MOST)) for _, value in known]
    if len(known) == 1:
        return math.exp(y[0])
    slope, intercept = linear_regression(x, y)
    return math.exp(intercept + slope * math.log(steps))
