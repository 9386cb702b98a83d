r"""A bracket of $\log p(x)$ of a stated width: samples go where they are needed.

Pilot draws tell for each datum what its weights are like. Where weights of q are bad, q is refined for that datum, and
where that does not help, chains are annealed from it (:class:`taut.evidence.ais.AIS`), in four times as many steps each
time.
All three give independent weights whose mean is p(x). Then the sizes are fixed
(:func:`taut.functional.allocation.allocate`), the pilots are thrown away, and fresh draws of these sizes give the
values: what has been chosen by looking at draws is never judged by the same draws.
"""

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
from taut.evidence.diagnostics import MAX_BAD_SHARE, MAX_KHAT
from taut.evidence.exact import Exact
from taut.evidence.log_evidence import LogEvidence
from taut.evidence.loop import EvalTask, batches_of, in_order, refine
from taut.evidence.optimal_q import Family, Search
from taut.evidence.rows import Rows
from taut.evidence.weights import Weights
from taut.functional import bounds
from taut.functional.allocation import allocate, rounded, spread_within
from taut.functional.precision import exact_arithmetic
from taut.functional.statistics import variance_of_mean
from taut.functional.types import LogWeights, PerDatum
from taut.runtime.processes import Processes
from taut.runtime.progress import Stage

METHODS = ("importance", "refined", "ais", "exact")
"""Where the weights of a datum come from: draws of q, of the best q for this datum, or chains annealed from there."""
FIRST, SECOND = 128, 1024
"""Draws of the pilot of every datum, and of those whose first pilot tells too little."""
FEW = 16.0
"""Effective draws of a pilot below which its variance is not known."""
HOPELESS = 4.0
"""Effective draws below which, with k-hat above 1, no number of draws of q is worth trying."""
SOUND = 0.5
"""K-hat in a pilot up to which the variance of weights exists, so that sizes can be planned with it."""
CONFIRMED = 4.0
"""A last pilot has this part of the draws that are planned."""
CAREFUL = 1.25
"""Times the variance that a pilot saw: few draws meet few of the rare large weights."""
LOWER, UPPER = "tolerance_lower", "tolerance_upper"
GROUPS = 32
"""Groups of draws left out, one at a time, for the error of the upper bound; every size is a multiple of it."""
CHAINS = 16
"""Chains of a pilot."""
LIGHT = 0.25
"""Effective share of few chains below which their weights are heavy, and more steps are tried."""
LEAST = {"importance": 128, "refined": 128, "ais": GROUPS}
SEARCH = Search(steps=50, samples=8, lr=0.1)
STEPS = (10, 40, 160)
LEAPFROG = 5
GRADIENT = 3.0
"""Cost of a gradient of log p(x, z) in evaluations of it."""
WORTH = 2.0
"""A remedy is tried where the draws planned cost so many times as much as trying it."""


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
        khat: Shape of the tail of the fresh weights; of few chains infinite if few of them count, else 0.
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


class Survey:
    """What pilot draws tell of the data of one process, and the draws that they call for.

    Args:
        question: The data.
        goal: What is asked for.
        family: The family of q, where it can be refined.
        processes: The processes that share the data.
        stage: Where progress is shown.
    """

    def __init__(
        self, question: EvalTask, goal: Goal, family: Family | None, processes: Processes, stage: Stage
    ) -> None:
        self.question, self.goal, self.family, self.processes, self.stage = question, goal, family, processes, stage
        self.mine = processes.rows(len(question.x))
        m = len(self.mine)
        self.variance, self.cost = torch.ones(2, m, dtype=torch.float64)
        self.khat, self.spent = torch.zeros(2, m, dtype=torch.float64)
        self.method, self.steps, self.seen = torch.zeros(3, m, dtype=torch.long)
        self.refined: Callable[[Tensor], Any] | None = None

    def explore(self) -> None:
        """Pilots of every datum, and remedies for those whose weights are poor, the cheapest first."""
        every = torch.ones(len(self.mine), dtype=torch.bool)
        ess = self._pilot(every, "importance", FIRST)
        annealable = _annealable(self.question)
        # of these another pilot would tell no more, and a remedy helps
        hopeless = (ess < HOPELESS) & (self.khat > 1) & (annealable or self.family is not None)
        self._pilot(((ess < FEW) | (self.khat > SOUND)) & ~hopeless, "importance", SECOND)
        self._confirm()
        price = GRADIENT * SEARCH.steps * SEARCH.samples + SECOND / 2
        poor = self._poor(price)
        if self.family is not None:
            self.refined = refine(self.question, self.family, SEARCH, self.processes, self.stage, self.mine[poor])
            self.spent[poor] += GRADIENT * SEARCH.steps * SEARCH.samples
            self._pilot(poor, "refined", SECOND // 2)
        for steps in STEPS if annealable else ():
            # chains start from the best q, which the others have not been given
            poor = poor & self._poor(_cost_of_chain(steps) * CHAINS)
            self._pilot(poor, "ais", CHAINS, steps)
        self._confirm()

    def _confirm(self) -> None:
        """A larger pilot where many draws are planned: the variance of heavy-tailed weights seems to grow with them."""
        planned = self.sizes(remedied=True)[0]
        kinds = torch.stack([self.method, self.steps, rounded(planned / CONFIRMED, GROUPS)], 1)
        larger = (kinds[:, 2] > self.seen) & (self.khat <= SOUND)
        for kind in kinds[larger].unique(dim=0).tolist():
            method, steps, k = kind
            self._pilot(larger & (kinds == torch.tensor(kind)).all(1), METHODS[method], k, steps)

    def sizes(self, *, remedied: bool = False) -> tuple[Int[Tensor, " m"], Bool[Tensor, " m"]]:
        """Fresh draws of each datum, and whether the budget cuts them; the same however the data are divided.

        Args:
            remedied: As if data with bad weights had others of relative variance 1, so that what they have so far asks
                for no draws of the rest.
        """
        variance = torch.where(self.khat > SOUND, 1.0, self.variance) if remedied else self.variance
        own = torch.stack([variance, self.cost, self.spent, self._least(), self.mine.double()])
        every = torch.cat(self.processes.gathered(own), 1)
        variance, cost, spent, least, row = every[:, every[4].argsort()]
        # rounding adds an eighth at most
        most = torch.maximum((self.goal.budget - spent) / cost / 1.125, least)
        asked = spread_within(self.goal.tolerance, self.goal.quantile, 1 if self.goal.per_datum else len(row))
        if self.goal.per_datum:
            wanted = torch.maximum(CAREFUL * variance / asked, least)
            found = torch.minimum(wanted, most)
        else:
            found = allocate(CAREFUL * variance, cost, asked, least=least, most=most)
        return rounded(found, GROUPS)[self.mine], ((found >= most) & (found > least))[self.mine]

    def _least(self) -> PerDatum:
        return torch.tensor([LEAST[METHODS[i]] for i in self.method.tolist()], dtype=torch.float64)

    def _poor(self, price: float) -> Bool[Tensor, " m"]:
        """Data for which a remedy of this price is worth a trial and can be paid."""
        planned = self.cost * self.sizes(remedied=True)[0]
        affordable = price <= (self.goal.budget - self.spent) / WORTH
        return ((self.khat > SOUND) | (planned > WORTH * price)) & affordable

    def _pilot(self, some: Bool[Tensor, " m"], method: str, k: int, steps: int = 0) -> PerDatum:
        """Try a method on some of the data, and keep it where it is better; effective draws of all that were tried."""
        ess = torch.full_like(self.variance, torch.inf)
        cost = _cost_of_chain(steps) if steps else 1.0
        kind = (METHODS.index(method), steps)
        for at in batches_of(some.nonzero()[:, 0], k):
            log_w = self._weights(self.mine[at], kind, k, f"pilot/{method}/{steps}/{k}")
            weights = Weights(log_w)
            nothing = ~weights.iwae.isfinite()
            variance = (weights.iwae_variance * k).masked_fill(nothing, float(k)).cpu()
            khat = _tail(weights).masked_fill(nothing, torch.inf).cpu()
            ess[at] = weights.ess.cpu()
            self.spent[at] += k * cost
            kept = at[self._better(at, kind, variance * cost, khat)]
            chosen = (at.unsqueeze(1) == kept).any(1)
            self.variance[kept], self.khat[kept] = variance[chosen], khat[chosen]
            self.cost[kept], self.method[kept], self.steps[kept], self.seen[kept] = cost, *kind, k
        return ess

    def _better(self, at: Tensor, kind: tuple[int, int], price: PerDatum, khat: PerDatum) -> Bool[Tensor, " m"]:
        """Tell whether a method takes the place of the one so far: a second pilot of the same one always does."""
        sound, was_sound = khat <= SOUND, self.khat[at] <= SOUND
        cheaper = price < self.variance[at] * self.cost[at]
        same = (self.method[at] == kind[0]) & (self.steps[at] == kind[1])
        return same | (sound & ~was_sound) | ((sound == was_sound) & cheaper)

    def _weights(self, index: Tensor, kind: tuple[int, int], k: int, purpose: str) -> LogWeights:
        """Fresh log-weights ``[k, b]`` of rows, of a method and its steps; every purpose has noise of its own."""
        method, steps = kind
        proposal = self.refined if method and self.refined is not None else None
        task = replace(self.question, split=f"{self.question.split}/tolerance/{purpose}", proposal=proposal)
        rows = task.rows(index, self.processes)
        with exact_arithmetic(rows.x.device):
            return _annealed(rows, steps, k) if steps else rows.drawn(k, "", rows.q)

    def fresh(self, stage: Stage) -> Bracketed | None:
        """The brackets of the data of this process, of draws whose number was fixed before; None without data."""
        sizes, cut = self.sizes()
        kinds = torch.stack([self.method, self.steps, sizes], 1)
        order, parts, done = [], [], 0.0
        whole = max((sizes * self.cost).sum().item(), 1.0)
        for kind in kinds.unique(dim=0).tolist():
            method, steps, k = kind
            for at in batches_of((kinds == torch.tensor(kind)).all(1).nonzero()[:, 0], k):
                log_w = self._weights(self.mine[at], (method, steps), k, f"value/{METHODS[method]}/{steps}")
                parts.append(self._bracketed(at, Weights(log_w), cut[at]))
                order.append(at)
                done += k * self.cost[at].sum().item()
                stage.at(min(1.0, done / whole))
        return Bracketed.cat(parts).select(torch.cat(order).argsort()) if parts else None

    def _bracketed(self, at: Tensor, weights: Weights, cut: Tensor) -> Bracketed:
        khat = _tail(weights).cpu()
        draws = torch.full_like(at, weights.k)
        evaluations = self.spent[at] + weights.k * self.cost[at]
        known = {"ess": weights.ess.cpu(), "khat": khat, "draws": draws.double(), "evaluations": evaluations}
        value, variance = weights.iwae.cpu(), weights.iwae_variance.cpu()
        lower = LogEvidence(LOWER, "lower", value, variance, weights.k, True, known)
        above = bounds.leave_one_out_upper(weights.log_w).cpu()
        upper = LogEvidence(UPPER, "upper", above, _variance_above(weights.log_w).cpu(), weights.k)
        exhausted = self.steps[at] == STEPS[-1]
        return Bracketed(lower, upper, self.method[at], khat, draws, evaluations, cut, exhausted)


def bracket(
    question: EvalTask, goal: Goal, family: Family | None, processes: Processes, pilots: Stage, stage: Stage
) -> Bracketed:
    r"""Bracket $\log p(x)$ of every datum so that half of the width is the tolerance, noise included.

    The lower end is the log of a mean of K weights, the upper one
    :func:`taut.functional.bounds.leave_one_out_upper` of the same weights, which have the same mean whichever of
    :data:`METHODS` they are of. Both rest on what the proposal visits: see ``evidence=modes`` for what it does not.

    Args:
        question: The data; a ``proposal`` of theirs is not used.
        goal: How narrow, and at what cost at most.
        family: The family of q and its encoder, where q can be refined; ``None`` elsewhere.
        processes: The processes that share the data.
        pilots: Where the progress of the pilots is shown.
        stage: Where that of the fresh draws is shown.
    """
    if question.target.exact is not None or question.target.discrete:
        return _exact(question, processes)
    survey = Survey(question, goal, family, processes, pilots)
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


def _tail(weights: Weights) -> PerDatum:
    """K-hat, 0 where weights are equal. Of few chains it tells little: few that count are such a tail there."""
    if weights.k < LEAST["importance"]:
        return torch.where(weights.ess < LIGHT * weights.k, torch.inf, 0.0).double()
    return weights.khat.nan_to_num(0.0)


def _variance_above(log_w: LogWeights) -> PerDatum:
    """Variance of the upper bound, by leaving out one of the groups at a time."""
    parts = log_w.unflatten(0, (GROUPS, -1))
    left = torch.stack(
        [bounds.leave_one_out_upper(torch.cat([parts[:i], parts[i + 1 :]]).flatten(0, 1)) for i in range(GROUPS)]
    )
    return variance_of_mean(left) * (GROUPS - 1) ** 2


def _annealable(question: EvalTask) -> bool:
    try:
        AIS().check(question.target)
    except UserError:
        return False
    return True


def _cost_of_chain(steps: int) -> float:
    """Evaluations of a chain, the run that tunes its step sizes included."""
    return GRADIENT * LEAPFROG * steps * (1 + 1 / annealing.TUNED_EVERY)


def _annealed(rows: Rows, steps: int, chains: int) -> LogWeights:
    """Log-weights of independent chains, ``[chains, b]``."""
    ais = AIS(steps, chains, LEAPFROG)
    size = max(1, annealing.AT_ONCE.get(rows.x.device.type, annealing.AT_ONCE["cpu"]) // chains)
    parts = []
    for first in range(0, len(rows), size):
        group = rows.part(slice(first, first + size))
        annealed = ais.annealed(group.padded(size))
        parts.append(annealed.forward(annealed.tune())[0][:, : len(group)])
    return torch.cat(parts, 1)
