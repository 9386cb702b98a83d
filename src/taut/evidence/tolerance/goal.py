"""What is asked of a bracket of log p(x), and what was found: its ends, its cost and what limits it."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from taut.evidence.diagnostics import MAX_BAD_SHARE, MAX_KHAT
from taut.evidence.log_evidence import LogEvidence
from taut.functional.types import PerDatum

METHODS = ("importance", "annealed", "exact")
"""Where the weights of a datum come from: draws of q, or chains annealed from q."""


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
        ends = [
            end.mean + sign * goal.quantile * end.monte_carlo_error for end, sign in ((self.lower, -1), (self.upper, 1))
        ]
        close = (ends[1] - ends[0]) / 2 <= goal.tolerance
        doubtful = self.khat > MAX_KHAT
        missed = doubtful | (half > goal.tolerance if goal.per_datum else self.cut)
        if not (close or goal.per_datum or missed.any()):
            # of a mean that is too wide where no datum is to blame, every pilot saw too little
            missed = torch.ones_like(missed)
        reasons = {
            "annealing steps": doubtful & self.exhausted,
            "k-hat": doubtful & ~self.exhausted,
            "budget": missed & ~doubtful & self.cut,
            "pilot": missed & ~doubtful & ~self.cut,
        }
        narrow = close and int(doubtful.sum()) <= MAX_BAD_SHARE * n
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
