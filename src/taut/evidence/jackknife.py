"""The jackknife: importance sampling with its first bias terms removed."""

from typing import ClassVar

import torch
from torch import Tensor

from taut.errors import UserError
from taut.evidence.base import Evidence, count
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.functional import bounds
from taut.functional.statistics import variance_of_mean
from taut.functional.types import LogWeights, PerDatum

MOST_PAIRED = 1000


class Jackknife(Evidence):
    r"""$\sum_{j=0}^m c_j \bar L_{K-j}$ with $c_j = (-1)^j (K-j)^m / ((m-j)!\, j!)$ (Nowozin, 2018, eqs. 20-21).

    $\bar L_{K-j}$ is the mean over all subsets of K - j of the weights that importance sampling drew. The bias falls
    like $K^{-(m+1)}$ where the weights have the moments. No bound: it may exceed $\log p(x)$.

    Args:
        k: Number of samples K of each datum.
        order: m, 1 or 2; order 2 takes K squared operations and K of at most 1,000.

    Raises:
        UserError: If k or the order is out of range.
    """

    name: ClassVar[str] = "jackknife"
    kind: ClassVar[Kind] = "estimate"

    def __init__(self, k: int = 1000, order: int = 1) -> None:
        if order not in (1, 2):
            raise UserError(f"evidence.jackknife.order must be 1 or 2, got {order!r}.")
        self.k, self.order = count("evidence.jackknife.k", k, order + 1), order
        if order == 2 and k > MOST_PAIRED:
            raise UserError(
                f"evidence.jackknife.order=2 leaves out every pair of k={k} samples; choose "
                f"evidence.jackknife.k={MOST_PAIRED} or less, or order 1."
            )

    @property
    def cost(self) -> float:
        return 0.1 * self.k  # the samples are those of importance sampling

    def estimate(self, rows: Rows) -> LogEvidence:
        weights = rows.weights(self.k)
        parts = bounds.jackknife_parts(weights.log_w)
        value = parts.mean(0) if self.order == 1 else second_order(weights.log_w)
        return LogEvidence(
            self.name, self.kind, value, variance_of_mean(parts), self.k, diagnostics=weights.diagnostics()
        )


def second_order(log_w: LogWeights) -> PerDatum:
    r"""$\frac12 K^2 L_K - (K-1)^2 \bar L_{K-1} + \frac12 (K-2)^2 \bar L_{K-2}$."""
    k = log_w.shape[0]
    whole = bounds.iwae(log_w)
    one = bounds.leave_one_out(log_w).mean(0) - _log(k - 1, log_w)
    # one sample after the other, so that memory grows with K and not with its square
    pairs = sum(_without(log_w, j) for j in range(k)) / (k * (k - 1))
    two = pairs - _log(k - 2, log_w)
    value = k**2 * whole / 2 - (k - 1) ** 2 * one + (k - 2) ** 2 * two / 2
    # infinite values cancel to NaN where every weight is 0
    return torch.where(whole.isfinite(), value, whole)


def _without(log_w: LogWeights, j: int) -> PerDatum:
    """Sum over i of the log-sum of all weights but the j-th and the i-th."""
    return bounds.leave_one_out(torch.cat([log_w[:j], log_w[j + 1 :]])).sum(0)


def _log(number: int, like: Tensor) -> Tensor:
    return torch.tensor(number, dtype=like.dtype, device=like.device).log()
