"""SUMO: log p(x) without bias, at the price of heavy tails."""

import math
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from taut.evidence.base import Evidence, count
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.functional import seeding
from taut.functional.statistics import variance_of_mean
from taut.model.draws import log_prob_in_double

HARMONIC, RATIO = 80, 0.9
"""P(N >= n) is 1/n up to 80 and shrinks by 0.9 a step beyond."""


class Sumo(Evidence):
    r"""$L_1 + \sum_{n=1}^N (L_{n+1} - L_n) / P(N \ge n)$ with N random (Luo et al., 2020): unbiased for $\log p(x)$.

    $L_n$ is the log-mean of the first n weights of one sequence. Its variance may be infinite and single values lie on
    either side, so it is neither a bound nor a number to publish; the value is the mean of independent runs.

    Args:
        runs: Number of independent runs of each datum; each takes about 6 samples.

    Raises:
        UserError: If runs is not an integer >= 2.
    """

    name: ClassVar[str] = "sumo"
    kind: ClassVar[Kind] = "estimate"

    def __init__(self, runs: int = 100) -> None:
        self.runs = count("evidence.sumo.runs", runs, 2)

    @property
    def cost(self) -> float:
        return 6.0 * self.runs

    def estimate(self, rows: Rows) -> LogEvidence:
        with seeding.forked(rows.x.device):
            values = torch.stack(
                [self._runs(rows, i, seed) for i, seed in enumerate(rows.keys.for_purpose(self.name).seeds())]
            )
        return LogEvidence(self.name, self.kind, values.mean(1), variance_of_mean(values.T))

    def _runs(self, rows: Rows, i: int, seed: int) -> Tensor:
        seeding.seed(seed, rows.x.device)
        lengths = _lengths(torch.rand(self.runs, dtype=torch.float64, device=rows.x.device))
        one = slice(i, i + 1)
        q = rows.q(one)
        z = q.sample((int((lengths + 1).sum()),))
        log_w = rows.target.log_joint(rows.x[one], z).double() - log_prob_in_double(q, z)
        return telescoped(pad_sequence(list(log_w[:, 0].split((lengths + 1).tolist()))), lengths)


def telescoped(log_w: Float[Tensor, "n runs"], lengths: Int[Tensor, " runs"]) -> Float[Tensor, " runs"]:
    """The value of each run from its first N + 1 log-weights; minus infinity if the first is."""
    n = torch.arange(1, len(log_w) + 1, dtype=log_w.dtype, device=log_w.device).unsqueeze(1)
    bounds = log_w.logcumsumexp(0) - n.log()
    # beyond the end of a run there is only padding
    rises = torch.where(n[:-1] <= lengths, bounds.diff(dim=0) / survival(n[:-1]), 0.0)
    # -inf minus -inf would be NaN where the first weight is 0
    return torch.where(bounds[0].isfinite(), bounds[0] + rises.sum(0), bounds[0])


def survival(n: Tensor) -> Tensor:
    r"""$P(N \ge n)$."""
    return torch.where(n <= HARMONIC, 1 / n, RATIO ** (n - HARMONIC) / HARMONIC)


def _lengths(u: Tensor) -> Tensor:
    """The largest n with P(N >= n) >= u, for u uniform on [0, 1)."""
    u = 1 - u  # never 0
    tail = HARMONIC + torch.floor((u * HARMONIC).log() / math.log(RATIO))
    return torch.where(u >= 1 / HARMONIC, torch.floor(1 / u), tail).long()
