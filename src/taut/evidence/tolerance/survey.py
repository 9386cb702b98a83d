"""Pilot draws: what the weights of each datum are like, and how many fresh draws of which method they call for."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taut.evidence.loop import EvalTask, batches_of
from taut.evidence.tolerance.goal import Goal
from taut.evidence.tolerance.method import (
    CAREFUL,
    DRAWS,
    FIRST,
    SECOND,
    SOUND,
    Method,
    Sampler,
    relative_variance,
    tail_at_most,
    tells_little,
)
from taut.evidence.tolerance.scouts import STEPS, Chains, Scouts
from taut.evidence.weights import Weights
from taut.functional.allocation import allocate, rounded, spread_within
from taut.functional.types import PerDatum
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage

CHAINS = 16
"""Chains of a pilot of a single datum."""
CONFIRMED = 4.0
"""A last pilot has this part of the draws that are planned."""


class Survey:
    """What pilot draws tell of the data of one process, and the draws that they call for.

    Args:
        question: The data.
        goal: What is asked for.
        processes: The processes that share the data.
        stage: Where progress is shown.
    """

    def __init__(self, question: EvalTask, goal: Goal, processes: Processes, stage: Stage) -> None:
        self.goal, self.processes, self.stage = goal, processes, stage
        self.sampler = Sampler(question, processes)
        self.mine = processes.rows(len(question.x))
        self.averaged = 1 if goal.per_datum else len(question.x)
        self.asked = spread_within(goal.tolerance, goal.quantile, self.averaged)
        m = len(self.mine)
        self.methods = [Method()]
        self.variance, self.khat, self.ess, self.spent = torch.zeros(4, m, dtype=torch.float64)
        self.method, self.seen = torch.zeros(2, m, dtype=torch.long)

    def explore(self) -> None:
        """Chains for all data where a few need them; else pilots of every datum, and chains where they help."""
        few, annealable = self._scouts(torch.arange(len(self.sampler.question.x))), self.sampler.annealable
        chains = self._scouted(few) if annealable and few.hopeless() else None
        self.stage.at(0.4)
        if chains is None or chains.draws_may_do:
            self._pilot(torch.ones(len(self.mine), dtype=torch.bool), Method(), FIRST)
            rows = torch.cat(self.processes.gathered(self.mine[self._unclear()])).sort().values
            self.stage.at(0.6)
            if annealable and chains is None and len(rows):
                chains = self._scouted(self._scouts(rows))
            if chains is None or chains.draws_may_do:
                self._pilot(self._unclear(), Method(), SECOND)
            self._confirm()
        if chains is not None:
            self._anneal(chains)
            self._confirm()
            self._lengthen(chains.method)

    def _unclear(self) -> Bool[Tensor, " m"]:
        """Data of which draws of q so far do not tell how many it takes."""
        return tells_little(self.ess, self.khat)

    def _scouts(self, rows: Int[Tensor, " n"]) -> Scouts:
        return Scouts(self.sampler, rows, self.goal.budget / 2)

    def _scouted(self, scouts: Scouts) -> Chains | None:
        """Chains that a few of the data say are the cheapest; None where the budget is too small."""
        if not scouts.affordable:
            return None
        chains = scouts.chains(self.asked, self.averaged)
        self.spent[torch.isin(self.mine, chains.rows)] += chains.spent
        return chains

    def _anneal(self, chains: Chains) -> None:
        """Chains for data whose weights of q are heavy-tailed or take more evaluations than they do."""
        affordable = chains.method.cost * chains.method.least(self.averaged) <= self.goal.budget - self.spent
        poor = self._unclear() | (self.variance > chains.variance * chains.method.cost)
        at = (poor & affordable).nonzero()[:, 0]
        self.method[at] = self._number(chains.method)
        self.variance[at], self.khat[at], self.ess[at], self.seen[at] = chains.variance, 0.0, torch.inf, CHAINS

    def _lengthen(self, method: Method) -> None:
        """Chains of four times as many steps where one of those of a pilot decides."""
        while method.steps < STEPS[-1]:
            method = replace(method, steps=min(4 * method.steps, STEPS[-1]))
            affordable = method.cost * CHAINS <= (self.goal.budget - self.spent) / 2
            self._pilot((self.method > 0) & (self.khat > SOUND) & affordable, method, CHAINS)
        self._confirm()

    def _confirm(self) -> None:
        """A larger pilot where many draws are planned: the variance of heavy-tailed weights seems to grow with them."""
        planned = rounded(self.sizes(sound=True)[0] / CONFIRMED, self._unit())
        larger = (planned > self.seen) & (self.khat <= SOUND)
        kinds = torch.stack([self.method, planned], 1)
        for method, k in kinds[larger].unique(dim=0).tolist():
            self._pilot(larger & (self.method == method) & (planned == k), self.methods[method], k)

    def sizes(self, *, sound: bool = False) -> tuple[Int[Tensor, " m"], Bool[Tensor, " m"]]:
        """Fresh draws of each datum, and whether the budget cuts them; the same however the data are divided.

        Args:
            sound: As if data with bad weights had others of relative variance 1, so that what they have so far asks
                for no draws of the rest.
        """
        variance = torch.where(self.khat > SOUND, 1.0, self.variance) if sound else self.variance
        cost = torch.tensor([self.methods[i].cost for i in self.method.tolist()], dtype=torch.float64)
        own = torch.stack([variance, cost, self.spent, self._least().double(), self.mine.double()])
        every = torch.cat(self.processes.gathered(own), 1)
        variance, cost, spent, least = every[:4, every[4].argsort()]
        # rounding adds an eighth at most
        most = torch.maximum((self.goal.budget - spent) / cost / 1.125, least)
        if self.goal.per_datum:
            wanted = torch.maximum(CAREFUL * variance / self.asked, least)
            found = torch.minimum(wanted, most)
        else:
            found = allocate(CAREFUL * variance, cost, self.asked, least=least, most=most)
        return rounded(found[self.mine], self._unit()), ((found >= most) & (found > least))[self.mine]

    def _least(self) -> Int[Tensor, " m"]:
        return torch.tensor([self.methods[i].least(self.averaged) for i in self.method.tolist()], dtype=torch.long)

    def _unit(self) -> Int[Tensor, " m"]:
        return torch.where(self.method > 0, 1, DRAWS)

    def _number(self, method: Method) -> int:
        if method not in self.methods:
            self.methods.append(method)
        return self.methods.index(method)

    def _pilot(self, some: Bool[Tensor, " m"], method: Method, k: int) -> None:
        """Try a method on some of the data, and keep it where it is better."""
        number = self._number(method)
        for at in batches_of(some.nonzero()[:, 0], k):
            weights = Weights(self.sampler.weights(self.mine[at], method, k, f"pilot/{method.name}/{method.steps}/{k}"))
            nothing = ~weights.iwae.isfinite()
            variance = relative_variance(weights).masked_fill(nothing, float(k)).cpu()
            khat = tail_at_most(weights).masked_fill(nothing, torch.inf).cpu()
            self.spent[at] += k * method.cost
            chosen = self._better(at, number, variance * method.cost, khat)
            kept = at[chosen]
            self.variance[kept], self.khat[kept], self.ess[kept] = (
                variance[chosen],
                khat[chosen],
                weights.ess.cpu()[chosen],
            )
            self.method[kept], self.seen[kept] = number, k

    def _better(self, at: Tensor, number: int, price: PerDatum, khat: PerDatum) -> Bool[Tensor, " m"]:
        """Tell whether a method takes the place of the one so far: a second pilot of the same one always does."""
        sound, was_sound = khat <= SOUND, self.khat[at] <= SOUND
        costs = torch.tensor([self.methods[i].cost for i in self.method[at].tolist()], dtype=torch.float64)
        same = self.method[at] == number
        return same | (sound & ~was_sound) | ((sound == was_sound) & (price < self.variance[at] * costs))
