"""Importance sampling from q."""

from typing import ClassVar

from taut.evidence.base import Evidence, count
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.weights import Weights
from taut.functional import bounds
from taut.functional.statistics import variance_of_mean


class Importance(Evidence):
    r"""$\log \frac1K \sum_k w_k$ with z from q: the log of an unbiased estimate of $p(x)$, a lower bound on average.

    IWAE-K of Burda, Grosse & Salakhutdinov (2016) as an estimator. The curve $L_1 \dots L_K$ comes from the blocks of
    one set of samples, and never decreases where one block size tiles the next. It converges to $\log p(x)$ like
    $\chi^2 / 2K$ if the weights have a variance, and slower, without telling, if not: see ``khat`` and ``ess``.

    Args:
        k: Number of samples K of each datum.

    Raises:
        UserError: If k is not an integer >= 1.
    """

    name: ClassVar[str] = "importance"
    kind: ClassVar[Kind] = "lower"

    def __init__(self, k: int = 1000) -> None:
        self.k = count("evidence.importance.k", k)

    @property
    def cost(self) -> float:
        return float(self.k)

    def estimate(self, rows: Rows) -> LogEvidence:
        return log_mean(self, rows.weights(self.k))


def elbo(rows: Rows, k: int = 1000) -> LogEvidence:
    """The ELBO of each datum: the mean of the K log-weights that importance sampling draws."""
    log_w = rows.weights(k).log_w
    return LogEvidence("elbo", "lower", bounds.elbo(log_w), variance_of_mean(log_w))


def log_mean(estimator: Evidence, weights: Weights) -> LogEvidence:
    """Log-mean of weights as evidence, with the bound at every block size."""
    curve = bounds.block_curve(weights.log_w)
    return LogEvidence(
        estimator.name,
        estimator.kind,
        weights.iwae,
        weights.iwae_variance,
        k=weights.k,
        unbiased=True,
        diagnostics=weights.diagnostics(),
        curve=curve,
    )
