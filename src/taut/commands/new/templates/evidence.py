"""An estimator of log p(x) of your own: the importance-weighted bound of few samples, averaged over many groups."""

from typing import ClassVar

from taut.evidence.base import Evidence, count
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.functional.bounds import log_mean_exp
from taut.functional.statistics import variance_of_mean


class Mine(Evidence):
    r"""$\frac1G \sum_g \log \frac1m \sum_{k \in g} w_k$: the bound $L_m$ with less noise, from the same K samples.

    An estimator has a ``name`` and says the ``kind`` of its values: ``exact``; ``lower`` or ``upper``, a bound in
    expectation over the noise; or ``estimate``, of no side. ``estimate`` gives the value of each datum and its variance
    at fixed x. ``rows.weights(k)`` draws K log-weights of q for each, shared with other estimators, from noise that is
    keyed by seed and datum; ``rows.target`` is the model, and ``check`` may refuse one that does not fit.

    Args:
        k: Number of samples K of each datum.
        size: Number of samples m in a group; what is left over is not used.
    """

    name: ClassVar[str] = "mine"
    kind: ClassVar[Kind] = "lower"

    def __init__(self, k: int = 1000, size: int = 10) -> None:
        self.size = count("evidence.mine.size", size)
        self.k = count("evidence.mine.k", k, self.size)

    @property
    def cost(self) -> float:
        return float(self.k)

    def estimate(self, rows: Rows) -> LogEvidence:
        groups = self.k // self.size
        log_w = rows.weights(self.k).log_w[: groups * self.size]
        bounds = log_mean_exp(log_w.unflatten(0, (self.size, groups)))  # over the samples of each group: [groups, b]
        return LogEvidence(self.name, self.kind, bounds.mean(0), variance_of_mean(bounds), k=self.size)
