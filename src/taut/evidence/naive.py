"""Naive Monte Carlo: z from the prior."""

from typing import ClassVar

from taut.errors import UserError
from taut.evidence.base import Evidence, count
from taut.evidence.importance import log_mean
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.target import Target


class Naive(Evidence):
    r"""$\log \frac1K \sum_k p(x \mid z_k)$ with z from the prior: likelihood weighting.

    Unbiased for $p(x)$, and hopeless: it needs about $e^{KL(p(z|x) \| p(z))}$ samples, some $10^{10}$ for a VAE of
    images, and levels off convincingly long before (Wu et al., 2017).

    Args:
        k: Number of samples K of each datum.

    Raises:
        UserError: If k is not an integer >= 1; from ``check``, if the target has no prior.
    """

    name: ClassVar[str] = "naive"
    kind: ClassVar[Kind] = "lower"

    def __init__(self, k: int = 1000) -> None:
        self.k = count("evidence.naive.k", k)

    @property
    def cost(self) -> float:
        return float(self.k)

    def check(self, target: Target) -> None:
        if target.prior is None:
            raise UserError("evidence=naive draws z from the prior; give Target(prior=...), or use importance.")

    def estimate(self, rows: Rows) -> LogEvidence:
        prior = rows.target.prior
        assert prior is not None
        return log_mean(self, rows.weights(self.k, self.name, lambda some: prior.expand((some.stop - some.start,))))
