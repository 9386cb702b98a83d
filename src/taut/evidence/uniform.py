"""The lecture's first idea: z uniform."""

from typing import ClassVar

import torch
from torch.distributions import Distribution, Independent
from torch.distributions import Uniform as TorchUniform

from taut.distributions.categories import DISCRETE, uniform_over
from taut.errors import UserError
from taut.evidence.base import Evidence, count
from taut.evidence.importance import log_mean
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.target import Target, innermost


class Uniform(Evidence):
    r"""$\log \frac1K \sum_k p(x, z_k) / u$ with z uniform over the categories, or over the box $[l, h]^d$.

    What of $p(x)$ lies outside the box is lost, so the value is a lower bound all the more.

    Args:
        k: Number of samples K of each datum.
        low: Lower end l of every side of the box; a prior with bounded support brings its own box.
        high: Upper end h of every side of the box.

    Raises:
        UserError: If k is not an integer >= 1, or the box is empty; from ``check``, if the target has
            no prior.
    """

    name: ClassVar[str] = "uniform"
    kind: ClassVar[Kind] = "lower"

    def __init__(self, k: int = 1000, low: float = -3.0, high: float = 3.0) -> None:
        self.k, self.low, self.high = count("evidence.uniform.k", k), low, high
        if not low < high:
            raise UserError(f"evidence.uniform: low={low} must lie below high={high}.")

    @property
    def cost(self) -> float:
        return float(self.k)

    def check(self, target: Target) -> None:
        if target.prior is None:
            raise UserError("evidence=uniform reads the shape of z from the prior; give Target(prior=...).")

    def estimate(self, rows: Rows) -> LogEvidence:
        prior = rows.target.prior
        assert prior is not None
        return log_mean(self, rows.weights(self.k, self.name, lambda some: self._box(prior, some, rows)))

    def _box(self, prior: Distribution, some: slice, rows: Rows) -> Distribution:
        size = (some.stop - some.start, *prior.event_shape)
        if isinstance(prior, DISCRETE):
            return uniform_over(prior, rows.x.new_zeros(size))
        assert prior.support is not None
        inside = innermost(prior.support)
        ends = getattr(inside, "lower_bound", self.low), getattr(inside, "upper_bound", self.high)
        low, high = (torch.as_tensor(end).to(rows.x).expand(size) for end in ends)
        return Independent(TorchUniform(low, high, validate_args=False), len(prior.event_shape))
