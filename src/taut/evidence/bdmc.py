"""Annealed importance sampling backwards, on data simulated from the model."""

from typing import ClassVar

import torch

from taut.errors import UserError
from taut.evidence.annealing import Annealing
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.target import Target
from taut.functional import bounds


class BDMC(Annealing):
    r"""Reverse AIS from an exact posterior draw (Grosse, Ghahramani & Adams, 2015): an upper bound.

    Walked backwards, the path gives an unbiased estimate of $1/p(x)$; minus the log of its mean is an upper bound of
    $\log p(x)$ on average, for data simulated from the model. The distance to AIS with the same settings bounds the
    error of both. Real data may be harder than simulated ones.
    """

    name: ClassVar[str] = "bdmc"
    kind: ClassVar[Kind] = "upper"
    simulated = True

    def check(self, target: Target) -> None:
        super().check(target)
        if target.simulate is None:
            raise UserError("evidence=bdmc needs data simulated from the model; give Target(simulate=...).")

    def part(self, rows: Rows) -> LogEvidence:
        assert rows.z is not None
        annealed = self.annealed(rows)
        log_w, acceptance = annealed.reverse(annealed.tune(), rows.z)
        value = -bounds.log_mean_exp(log_w)
        unknown = torch.full_like(value, torch.nan)  # all chains share one draw of the posterior
        return LogEvidence(self.name, self.kind, value, unknown, self.chains, True, {"acceptance": acceptance})
