"""Draws of q and annealed chains: what a weight costs, fresh weights of either, and what weights tell of their tail."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from taut.errors import UserError
from taut.evidence import annealing
from taut.evidence.ais import AIS
from taut.evidence.diagnostics import MAX_WEIGHT
from taut.evidence.loop import EvalTask
from taut.evidence.rows import Rows
from taut.evidence.tolerance.goal import METHODS
from taut.evidence.weights import Weights
from taut.functional import bounds
from taut.functional.precision import exact_arithmetic
from taut.functional.types import LogWeights, PerDatum
from taut.runtime.processes import Processes

FIRST, SECOND = 128, 1024
"""Draws of the pilot of every datum, and of those whose first pilot tells too little. Fewer weights are chains."""
FEW = 16.0
"""Effective draws of a pilot below which its variance is not known."""
SOUND = 0.5
"""K-hat in a pilot up to which the variance of weights exists, so that sizes can be planned with it."""
CAREFUL = 1.25
"""Times the variance that a pilot saw: few draws meet few of the rare large weights."""
DRAWS = 32
"""Every number of draws of q is a multiple of it."""
LEAST = 5
"""Chains of each datum at least: of fewer, the mean of the others, which the upper bound divides by, is too noisy."""
TOGETHER = {"cpu": 512, "cuda": 2048}
"""Chains that walk at once."""
GRADIENT = 3.0
"""Cost of a gradient of log p(x, z) in evaluations of it."""


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
        """Weights that each of n data gets at least: as many chains as a call is worth, and 5 of each datum."""
        return max(LEAST, -(-annealing.AT_ONCE["cpu"] // n)) if self.steps else FIRST


@dataclass(frozen=True)
class Sampler:
    """Fresh weights of the data of a question.

    Args:
        question: The data; a ``proposal`` of theirs is not used.
        processes: The processes that share the data.
    """

    question: EvalTask
    processes: Processes

    @property
    def annealable(self) -> bool:
        """Whether chains can move z along gradients."""
        try:
            AIS().check(self.question.target)
        except UserError:
            return False
        return True

    def weights(self, index: Tensor, method: Method, k: int, purpose: str, at_once: int | None = None) -> LogWeights:
        """Fresh log-weights ``[k, b]`` of rows by a method; every purpose has noise of its own.

        Chains of always as many data walk at once, as many as suit the device if ``at_once`` does not say it: a call of
        another shape rounds differently, and chains amplify that.
        """
        task = replace(self.question, split=f"{self.question.split}/tolerance/{purpose}", proposal=None)
        rows = task.rows(index, self.processes)
        with exact_arithmetic(rows.x.device):
            if not method.steps:
                return rows.drawn(k, "", rows.q)
            most = TOGETHER.get(rows.x.device.type, TOGETHER["cpu"])
            return _annealed(rows, method, k, at_once or max(1, most // k))


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


def tail(weights: Weights) -> PerDatum:
    """K-hat, 0 where weights are equal. Few chains have none: a single one that decides is such a tail there."""
    if weights.k < FIRST:
        return torch.where(weights.max_weight > MAX_WEIGHT, torch.inf, 0.0).double()
    return weights.khat.nan_to_num(0.0)


def tail_at_most(weights: Weights) -> PerDatum:
    """:func:`tail` and its standard error, (1 + k-hat) by the square root of the weights that it is fitted to."""
    khat = tail(weights)
    if weights.k < FIRST:
        return khat
    return khat + (1 + khat) / math.sqrt(min(weights.k / 5, 3 * math.sqrt(weights.k)))


def relative_variance(weights: Weights) -> PerDatum:
    r"""Relative variance of a weight; of few chains, whose own mean hides it, K times the width of their bracket."""
    if weights.k >= FIRST:
        return weights.iwae_variance * weights.k
    width = bounds.leave_one_out_upper(weights.log_w) - weights.iwae
    return (weights.k * width).nan_to_num(torch.inf).clamp(0.0, weights.k**2)


def khat_of_chains(log_w: Sequence[LogWeights]) -> float:
    """K-hat of few chains of each datum, all data together: of what the upper bound is the mean of, w_k / X_k."""
    ratios = [(own - bounds.leave_one_out(own) + math.log(len(own) - 1)).flatten() for own in log_w]
    return Weights(torch.cat(ratios).unsqueeze(1)).khat.nan_to_num(0.0).item() if ratios else 0.0


def tells_little(ess: PerDatum, khat: PerDatum) -> Bool[Tensor, " b"]:
    """Data whose variance of weights a pilot does not tell."""
    return (ess < FEW) | (khat > SOUND)
