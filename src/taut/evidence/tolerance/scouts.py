"""Chains that are tried on a few of the data, to be used for all that need them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from taut.evidence.diagnostics import MAX_KHAT
from taut.evidence.tolerance.method import (
    CAREFUL,
    FIRST,
    SECOND,
    SOUND,
    Method,
    Sampler,
    khat_of_chains,
    relative_variance,
    tail,
    tells_little,
)
from taut.evidence.weights import Weights

SCOUTS, CHAINS = 8, 16
"""Data on which chains are tried, and chains of a pilot."""
STEPS = (16, 32, 64, 128, 256)
"""Steps of chains."""
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

    @property
    def affordable(self) -> bool:
        """Whether the budget allows to try every step size."""
        return self.budget >= 2 * len(SIZES) * CHAINS * Method(STEPS[0]).cost

    def chains(self, asked: float, averaged: int) -> Chains:
        """The cheapest chains for the data.

        The step size is that of the highest bound of the shortest chains, which is defined where hardly any weight
        counts, too; then chains grow as long as their k-hat is too large or as what the planned number of them costs
        falls.

        Args:
            asked: The spread that is allowed.
            averaged: Number of data whose mean is bracketed.
        """
        size = _highest(lambda size: self._tried(Method(STEPS[0], size)).iwae.mean().item())
        found = list[tuple[bool, float, int, float]]()
        for steps in STEPS:
            method = Method(steps, size)
            if self.left < CHAINS * method.cost:
                break
            weights = self._tried(method)
            variance = relative_variance(weights).mean().item()
            price = method.cost * max(CAREFUL * variance / asked, method.least(averaged))
            found.append((khat_of_chains([weights.log_w]) > MAX_KHAT, price, steps, variance))
            if len(found) > 1 and not found[-1][0] and price >= found[-2][1]:
                break
        *_, steps, variance = min(found)
        method = Method(steps, size)
        cheaper = self._draws_may_do(variance * method.cost)
        return Chains(method, variance, cheaper, self.rows, self.budget - self.left + FIRST + SECOND)

    def hopeless(self) -> bool:
        """Tell whether draws of q say too little of each of the data."""
        weights = self._drawn(FIRST, "pilot/few")
        return bool(tells_little(weights.ess, tail(weights)).all())

    def _draws_may_do(self, price: float) -> bool:
        draws = self._drawn(SECOND, f"pilot/few/{SECOND}")
        cheaper = (tail(draws) <= SOUND) & (relative_variance(draws) < price)
        return cheaper.double().mean().item() >= 0.5

    def _drawn(self, k: int, purpose: str) -> Weights:
        return Weights(self.sampler.weights(self.rows, Method(), k, purpose))

    def _tried(self, method: Method) -> Weights:
        self.left -= CHAINS * method.cost
        # the same noise for every size: their difference is what counts
        purpose = f"pilot/few/{method.steps}"
        return Weights(self.sampler.weights(self.rows, method, CHAINS, purpose, len(self.rows)))


def _highest(score: Callable[[float], float]) -> float:
    """The size of the highest score, climbed to from one side and then the other."""
    at = len(SIZES) - 3
    best = score(SIZES[at])
    for way in (-1, 1):
        while 0 <= at + way < len(SIZES) and (tried := score(SIZES[at + way])) > best:
            at, best = at + way, tried
    return SIZES[at]
