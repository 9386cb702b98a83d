r"""A bracket of $\log p(x)$ of a stated width: samples go where they are needed.

Pilot draws tell for each datum what its weights are like. Where weights of q are bad, chains are annealed from q
(:meth:`taut.evidence.annealing.Annealed.unadjusted`); how many steps they take, and how long ones, is found on a few of
the data, and where that does not help a datum, its chains take four times as many. Both give independent weights whose
mean is p(x). Then the sizes are fixed (:func:`taut.functional.allocation.allocate`), the pilots are thrown away, and
fresh draws of these sizes give the values: what has been chosen by looking at draws is never judged by the same draws.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taut.errors import UserError
from taut.evidence import annealing
from taut.evidence.ais import AIS
from taut.evidence.diagnostics import MAX_BAD_SHARE, MAX_KHAT, MAX_WEIGHT
from taut.evidence.exact import Exact
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.loop import EvalTask, batches_of, in_order
from taut.evidence.rows import Rows
from taut.evidence.weights import Weights
from taut.functional import bounds
from taut.functional.allocation import allocate, rounded, spread_within
from taut.functional.precision import exact_arithmetic
from taut.functional.statistics import variance_of_mean
from taut.functional.types import LogWeights, PerDatum
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage

METHODS = ("importance", "annealed", "exact")
"""Where the weights of a datum come from: draws of q, or chains annealed from q."""
FIRST, SECOND = 128, 1024
"""Draws of the pilot of every datum, and of those whose first pilot tells too little."""
FEW = 16.0
"""Effective draws of a pilot below which its variance is not known."""
SOUND = 0.5
"""K-hat in a pilot up to which the variance of weights exists, so that sizes can be planned with it."""
CONFIRMED = 4.0
"""A last pilot has this part of the draws that are planned."""
CAREFUL = 1.25
"""Times the variance that a pilot saw: few draws meet few of the rare large weights."""
LOWER, UPPER = "tolerance_lower", "tolerance_upper"
GROUPS, UNIT = 32, 8
"""Groups of draws left out, one at a time, for the error of the upper bound, and those of chains at least; every number
of draws is a multiple of the one, every number of chains of the other."""
SCOUTS, CHAINS = 8, 16
"""Data on which chains are tried, and chains of a pilot."""
GRADIENT = 3.0
"""Cost of a gradient of log p(x, z) in evaluations of it."""
STEPS = (16, 32, 64, 128, 256)
"""Steps of chains."""
SIZES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Their sizes, in units of the scale of q; the first that is tried is the one before the last two."""


@dataclass(frozen=True)
class Method:
    """Where the weights of a datum come from.

    Args:
        steps: Steps of a chain; 0 for draws of q.
        size: Size of a step.
    """

    steps: int = 0
    size: float = 0.0

    @property
    def name(self) -> str:
        """One of :data:`METHODS`."""
        return METHODS[1 if self.steps else 0]

    @property
    def cost(self) -> float:
        """Evaluations of log p(x, z) that a weight takes."""
        return GRADIENT * (self.steps + 1) if self.steps else 1.0

    def least(self, n: int) -> int:
        """Weights that each of n data gets at least: as many chains as walk at once anyway, and 8 of each datum."""
        return UNIT * -(-max(annealing.AT_ONCE["cpu"], UNIT * n) // (UNIT * n)) if self.steps else FIRST


@dataclass(frozen=True)
class Goal:
    """What is asked for.

    Args:
        tolerance: Half of the width of the bracket, noise included, in nats.
        per_datum: Of each datum, rather than of the mean over the data.
        confidence: Of the bracket.
        budget: Evaluations of log p(x, z) that each datum may take, pilots included; a gradient counts as three.
    """

    tolerance: float
    per_datum: bool = False
    confidence: float = 0.95
    budget: int = 200_000

    @property
    def quantile(self) -> float:
        """Standard errors on either side of the bracket."""
        return NormalDist().inv_cdf((1 + self.confidence) / 2)


@dataclass(frozen=True)
class Bracketed:
    """A bracket of each datum, and what it took.

    Args:
        lower: A lower bound, the log of the mean of fresh weights.
        upper: An upper bound of the same weights.
        method: Number of the method in :data:`METHODS`.
        khat: Shape of the tail of the fresh weights; of few chains that of all data together.
        draws: Number of fresh weights.
        evaluations: Evaluations of log p(x, z), pilots included.
        cut: Whether the budget allowed fewer draws than were asked for.
        exhausted: Whether its chains take as many steps as there may be.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("method", "khat", "draws", "evaluations", "cut", "exhausted")

    lower: LogEvidence
    upper: LogEvidence
    method: Int[Tensor, " n"]
    khat: PerDatum
    draws: Int[Tensor, " n"]
    evaluations: PerDatum
    cut: Bool[Tensor, " n"]
    exhausted: Bool[Tensor, " n"]

    def select(self, index: Int[Tensor, " m"]) -> "Bracketed":
        """Some of the data, or all in another order."""
        rest = (getattr(self, name)[index] for name in self.FIELDS)
        return Bracketed(self.lower.select(index), self.upper.select(index), *rest)

    @staticmethod
    def cat(parts: "Sequence[Bracketed]") -> "Bracketed":
        """The brackets of further data."""
        lower, upper = (LogEvidence.cat([getattr(part, name) for part in parts]) for name in ("lower", "upper"))
        rest = (torch.cat([getattr(part, name) for part in parts]) for name in Bracketed.FIELDS)
        return Bracketed(lower, upper, *rest)

    def ends(self, goal: Goal) -> tuple[PerDatum, PerDatum]:
        """The bracket of each datum, noise included."""
        low = self.lower.value - goal.quantile * self.lower.variance.sqrt()
        return low, self.upper.value + goal.quantile * self.upper.variance.sqrt()

    def summary(self, goal: Goal) -> dict[str, Any]:
        """What goes into ``result.json``: the bracket, whether it is as narrow as asked, what limits the rest, cost."""
        n = len(self.draws)
        low, high = self.ends(goal)
        half = (high - low) / 2
        doubtful = self.khat > MAX_KHAT
        missed = doubtful | (half > goal.tolerance if goal.per_datum else self.cut)
        reasons = {
            "annealing steps": doubtful & self.exhausted,
            "k-hat": doubtful & ~self.exhausted,
            "budget": missed & ~doubtful & self.cut,
            "pilot": missed & ~doubtful & ~self.cut,
        }
        ends = [
            end.mean + sign * goal.quantile * end.monte_carlo_error for end, sign in ((self.lower, -1), (self.upper, 1))
        ]
        narrow = (ends[1] - ends[0]) / 2 <= goal.tolerance and int(doubtful.sum()) <= MAX_BAD_SHARE * n
        return {
            "tolerance": goal.tolerance,
            "per_datum": goal.per_datum,
            "confidence": goal.confidence,
            "budget": goal.budget,
            "reached": not bool(missed.any()) if goal.per_datum else narrow,
            "value": sum(ends) / 2,
            "low": ends[0],
            "high": ends[1],
            "half_width": (ends[1] - ends[0]) / 2,
            "share": 1 - int(missed.sum()) / n,
            "limits": {reason: int(data.sum()) for reason, data in reasons.items() if data.any()},
            "methods": {
                method: int((self.method == i).sum()) for i, method in enumerate(METHODS) if (self.method == i).any()
            },
            "draws": self.draws.double().mean().item(),
            "evaluations": self.evaluations.mean().item(),
        }


@dataclass(frozen=True)
class Chains:
    """The chains that are cheapest for the data on which they were tried.

    Args:
        method: Their steps.
        variance: Relative variance of their weights.
        draws_may_do: Whether more draws of q would be cheaper for half of these data or more.
    """

    method: Method
    variance: float
    draws_may_do: bool


class Survey:
    """What pilot draws tell of the data of one process, and the draws that they call for.

    Args:
        question: The data.
        goal: What is asked for.
        processes: The processes that share the data.
        stage: Where progress is shown.
    """

    def __init__(self, question: EvalTask, goal: Goal, processes: Processes, stage: Stage) -> None:
        self.question, self.goal, self.processes, self.stage = question, goal, processes, stage
        self.mine = processes.rows(len(question.x))
        self.averaged = 1 if goal.per_datum else len(question.x)
        self.asked = spread_within(goal.tolerance, goal.quantile, self.averaged)
        m = len(self.mine)
        self.methods = [Method()]
        self.variance, self.khat, self.ess, self.spent = torch.zeros(4, m, dtype=torch.float64)
        self.method, self.seen = torch.zeros(2, m, dtype=torch.long)

    def explore(self) -> None:
        """Chains for all data where a few need them; else pilots of every datum, and chains where they help."""
        every = torch.arange(len(self.question.x))
        annealable = _annealable(self.question)
        chains = self._scouted(every) if annealable and self._hopeless(every) else None
        self.stage.at(0.4)
        if chains is None or chains.draws_may_do:
            self._pilot(torch.ones(len(self.mine), dtype=torch.bool), Method(), FIRST)
            rows = torch.cat(self.processes.gathered(self.mine[self._unclear()])).sort().values
            self.stage.at(0.6)
            if annealable and chains is None and len(rows):
                chains = self._scouted(rows)
            if chains is None or chains.draws_may_do:
                self._pilot(self._unclear(), Method(), SECOND)
            self._confirm()
        if chains is not None:
            self._anneal(chains)
            self._confirm()
            self._lengthen(chains.method)

    def _unclear(self) -> Bool[Tensor, " m"]:
        """Data of which draws of q so far do not tell how many it takes."""
        return _tells_little(self.ess, self.khat)

    def _hopeless(self, rows: Int[Tensor, " n"]) -> bool:
        """Tell whether draws of q say too little of each of a few data."""
        weights = Weights(self._weights(_spaced(rows), Method(), FIRST, "pilot/few"))
        return bool(_tells_little(weights.ess, _tail(weights)).all())

    def _scouted(self, rows: Int[Tensor, " n"]) -> Chains | None:
        """The cheapest chains for some data, found on a few of them; None where the budget is too small.

        The same in every process. The step size is that of the highest bound of the shortest chains, which is defined
        where hardly any weight counts, too; then chains grow as long as their k-hat is too large or as what the planned
        number of them costs falls.
        """
        few, budget, found = _spaced(rows), self.goal.budget / 2, list[tuple[bool, float, int, float]]()

        def tried(method: Method) -> Weights:
            nonlocal budget
            budget -= CHAINS * method.cost
            # the same noise for every size: their difference is what counts
            return Weights(self._weights(few, method, CHAINS, f"pilot/few/{method.steps}", len(few)))

        if budget < 2 * len(SIZES) * CHAINS * Method(STEPS[0]).cost:
            return None
        size = _highest(lambda size: tried(Method(STEPS[0], size)).iwae.mean().item())
        for steps in STEPS:
            method = Method(steps, size)
            if budget < CHAINS * method.cost:
                break
            weights = tried(method)
            variance = _relative_variance(weights).mean().item()
            price = method.cost * max(CAREFUL * variance / self.asked, method.least(self.averaged))
            found.append((_khat_of_chains([weights.log_w]) > MAX_KHAT, price, steps, variance))
            if len(found) > 1 and not found[-1][0] and price >= found[-2][1]:
                break
        *_, steps, variance = min(found)
        method = Method(steps, size)
        draws = Weights(self._weights(few, Method(), SECOND, f"pilot/few/{SECOND}"))
        cheaper = (_tail(draws) <= SOUND) & (_relative_variance(draws) < variance * method.cost)
        self.spent[torch.isin(self.mine, few)] += self.goal.budget / 2 - budget + FIRST + SECOND
        return Chains(method, variance, cheaper.double().mean().item() >= 0.5)

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
        return torch.where(self.method > 0, UNIT, GROUPS)

    def _number(self, method: Method) -> int:
        if method not in self.methods:
            self.methods.append(method)
        return self.methods.index(method)

    def _pilot(self, some: Bool[Tensor, " m"], method: Method, k: int) -> None:
        """Try a method on some of the data, and keep it where it is better."""
        number = self._number(method)
        for at in batches_of(some.nonzero()[:, 0], k):
            weights = Weights(self._weights(self.mine[at], method, k, f"pilot/{method.name}/{method.steps}/{k}"))
            nothing = ~weights.iwae.isfinite()
            variance = _relative_variance(weights).masked_fill(nothing, float(k)).cpu()
            khat = _tail(weights).masked_fill(nothing, torch.inf).cpu()
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

    def _weights(self, index: Tensor, method: Method, k: int, purpose: str, at_once: int | None = None) -> LogWeights:
        """Fresh log-weights ``[k, b]`` of rows by a method; every purpose has noise of its own.

        Chains of always as many data walk at once, as many as suit the device if ``at_once`` does not say it: a call of
        another shape rounds differently, and chains amplify that.
        """
        task = replace(self.question, split=f"{self.question.split}/tolerance/{purpose}", proposal=None)
        rows = task.rows(index, self.processes)
        with exact_arithmetic(rows.x.device):
            if not method.steps:
                return rows.drawn(k, "", rows.q)
            most = annealing.AT_ONCE.get(rows.x.device.type, annealing.AT_ONCE["cpu"])
            return _annealed(rows, method, k, at_once or max(1, most // k))

    def fresh(self, stage: Stage) -> Bracketed | None:
        """The brackets of the data of this process, of draws whose number was fixed before; None without data."""
        sizes, cut = self.sizes()
        kinds = torch.stack([self.method, sizes], 1)
        drawn, done = [], 0.0
        whole = max(sum(k * self.methods[number].cost for number, k in kinds.tolist()), 1.0)
        for number, k in kinds.unique(dim=0).tolist():
            method = self.methods[number]
            for at in batches_of(((self.method == number) & (sizes == k)).nonzero()[:, 0], k):
                log_w = self._weights(self.mine[at], method, k, f"value/{method.name}/{method.steps}")
                drawn.append((at, method, Weights(log_w)))
                done += len(at) * k * method.cost
                stage.at(min(1.0, done / whole))
        few = [weights.log_w.cpu() for _, _, weights in drawn if weights.k < FIRST]
        together = _khat_of_chains([log_w for part in self.processes.gathered(few) for log_w in part])
        parts = [self._bracketed(at, method, weights, cut[at], together) for at, method, weights in drawn]
        return Bracketed.cat(parts).select(torch.cat([at for at, *_ in drawn]).argsort()) if parts else None

    def _bracketed(self, at: Tensor, method: Method, weights: Weights, cut: Tensor, together: float) -> Bracketed:
        khat = _tail(weights).cpu() if weights.k >= FIRST else torch.full_like(weights.iwae.cpu(), together)
        draws = torch.full_like(at, weights.k)
        evaluations = self.spent[at] + weights.k * method.cost
        known = {"ess": weights.ess.cpu(), "khat": khat, "draws": draws.double(), "evaluations": evaluations}
        value, variance = weights.iwae.cpu(), weights.iwae_variance.cpu()
        lower = LogEvidence(LOWER, "lower", value, variance, weights.k, True, known)
        above = bounds.leave_one_out_upper(weights.log_w).cpu()
        upper = LogEvidence(UPPER, "upper", above, _variance_above(weights.log_w).cpu(), weights.k)
        exhausted = torch.full_like(cut, method.steps == STEPS[-1])
        name = torch.full_like(at, METHODS.index(method.name))
        return Bracketed(lower, upper, name, khat, draws, evaluations, cut, exhausted)


def bracket(question: EvalTask, goal: Goal, processes: Processes, pilots: Stage, stage: Stage) -> Bracketed:
    r"""Bracket $\log p(x)$ of every datum so that half of the width is the tolerance, noise included.

    The lower end is the log of a mean of K weights, the upper one
    :func:`taut.functional.bounds.leave_one_out_upper` of the same weights, which have the same mean whichever of
    :data:`METHODS` they are of. Both rest on what the proposal visits: see ``evidence=modes`` for what it does not.

    Args:
        question: The data; a ``proposal`` of theirs is not used.
        goal: How narrow, and at what cost at most.
        processes: The processes that share the data.
        pilots: Where the progress of the pilots is shown.
        stage: Where that of the fresh draws is shown.
    """
    if question.target.exact is not None or question.target.discrete:
        return _exact(question, processes)
    survey = Survey(question, goal, processes, pilots)
    survey.explore()
    pilots.at(1.0)
    found = in_order(processes.gathered((survey.mine, survey.fresh(stage))), Bracketed.cat)
    k = round(found.draws.double().mean().item())
    return replace(found, lower=replace(found.lower, k=k), upper=replace(found.upper, k=k))


def _exact(question: EvalTask, processes: Processes) -> Bracketed:
    rows = question.rows(torch.arange(len(question.x)), processes)
    with exact_arithmetic(rows.x.device):
        value = Exact().estimate(rows).value.cpu()
    none, no = torch.zeros_like(value), torch.zeros(len(value), dtype=torch.bool)
    known = {"draws": none, "evaluations": none}
    lower = LogEvidence(LOWER, "lower", value, none, unbiased=True, diagnostics=known)
    kind = torch.full((len(value),), METHODS.index("exact"))
    return Bracketed(lower, LogEvidence(UPPER, "upper", value, none), kind, none, none.long(), none, no, no)


def _spaced(rows: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
    """A few of some rows, evenly spaced."""
    return rows[torch.linspace(0, len(rows) - 1, min(SCOUTS, len(rows))).round().long()]


def _highest(score: Callable[[float], float]) -> float:
    """The size of the highest score, climbed to from one side and then the other."""
    at = len(SIZES) - 3
    best = score(SIZES[at])
    for way in (-1, 1):
        while 0 <= at + way < len(SIZES) and (tried := score(SIZES[at + way])) > best:
            at, best = at + way, tried
    return SIZES[at]


def _tells_little(ess: PerDatum, khat: PerDatum) -> Bool[Tensor, " b"]:
    """Data whose variance of weights a pilot does not tell."""
    return (ess < FEW) | (khat > SOUND)


def _tail(weights: Weights) -> PerDatum:
    """K-hat, 0 where weights are equal. Few chains have none: a single one that decides is such a tail there."""
    if weights.k < FIRST:
        return torch.where(weights.max_weight > MAX_WEIGHT, torch.inf, 0.0).double()
    return weights.khat.nan_to_num(0.0)


def _relative_variance(weights: Weights) -> PerDatum:
    r"""Relative variance of a weight; of few chains, whose own mean hides it, K times the width of their bracket."""
    if weights.k >= FIRST:
        return weights.iwae_variance * weights.k
    width = bounds.leave_one_out_upper(weights.log_w) - weights.iwae
    return (weights.k * width).nan_to_num(torch.inf).clamp(0.0, weights.k**2)


def _khat_of_chains(log_w: Sequence[LogWeights]) -> float:
    """K-hat of few chains of each datum, all data together: of what the upper bound is the mean of, w_k / X_k."""
    ratios = [(own - bounds.leave_one_out(own) + math.log(len(own) - 1)).flatten() for own in log_w]
    return Weights(torch.cat(ratios).unsqueeze(1)).khat.nan_to_num(0.0).item() if ratios else 0.0


def _variance_above(log_w: LogWeights) -> PerDatum:
    """Variance of the upper bound, by leaving out one of the groups at a time."""
    groups = math.gcd(len(log_w), GROUPS)
    parts = log_w.unflatten(0, (groups, -1))
    left = torch.stack(
        [bounds.leave_one_out_upper(torch.cat([parts[:i], parts[i + 1 :]]).flatten(0, 1)) for i in range(groups)]
    )
    return variance_of_mean(left) * (groups - 1) ** 2


def _annealable(question: EvalTask) -> bool:
    try:
        AIS().check(question.target)
    except UserError:
        return False
    return True


def _annealed(rows: Rows, method: Method, chains: int, size: int) -> LogWeights:
    """Log-weights of independent chains, ``[chains, b]``, of so many data at a time."""
    betas = [t / method.steps for t in range(method.steps + 1)]
    parts = []
    for first in range(0, len(rows), size):
        group = rows.part(slice(first, first + size))
        padded = group.padded(size)
        chain = annealing.Annealed(padded, padded.q, betas, chains, leapfrog=1)
        parts.append(chain.unadjusted(method.size)[:, : len(group)])
    return torch.cat(parts, 1)
