"""log p(x) exactly: in closed form, as a finite sum, or by quadrature."""

from typing import ClassVar

import torch
from torch import Tensor

from taut.bounds import log_sum_exp
from taut.errors import UserError
from taut.evidence import quadrature
from taut.evidence.base import Evidence
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.target import Target

WIDER = 12
"""Times a box may grow by its own width on a side where it cuts mass off."""
GOAL = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Nats by which doubling the resolution may still move an integral."""


class Exact(Evidence):
    r"""$\log p(x)$ in closed form, as $\sum_z p(x, z)$ over a discrete z, or by quadrature over one or two dimensions.

    The quadrature (Gauss-Legendre rules on cells that are halved where the mass is) ends when doubling its resolution
    moves it by less than 1e-9 (float32: 1e-4) nats; ``resolution`` is by how much the last doubling did.

    Raises:
        UserError: From ``check``, if z has more dimensions and no closed form is known; if a quadrature does not
            settle.
    """

    name: ClassVar[str] = "exact"
    kind: ClassVar[Kind] = "exact"

    def check(self, target: Target) -> None:
        if target.exact is None and not target.discrete and (target.prior is None or not _low(target)):
            size = "a" if target.prior is None else f"a {target.prior.event_shape.numel()}-dimensional"
            raise UserError(
                f"evidence=exact does not fit this model: log p(x) has no closed form and {size} z cannot be summed "
                "or integrated over (1 or 2 dimensions, with a prior, can); use evidence=importance or ais, and "
                "struski for an upper bound."
            )

    def estimate(self, rows: Rows) -> LogEvidence:
        target = rows.target
        if target.exact is not None:
            value = target.exact(rows.x).double()
            return LogEvidence(self.name, self.kind, value, torch.zeros_like(value))
        if target.discrete:
            value = self._summed(rows)
            return LogEvidence(self.name, self.kind, value, torch.zeros_like(value))
        return self._integrated(rows)

    def _summed(self, rows: Rows) -> Tensor:
        assert rows.target.prior is not None
        z = rows.target.prior.enumerate_support().unsqueeze(1)
        z = z.expand(len(z), len(rows), *z.shape[2:])
        return log_sum_exp(rows.target.log_joint(rows.x, z).double())

    def _integrated(self, rows: Rows) -> LogEvidence:
        goal = GOAL.get(rows.x.dtype, GOAL[torch.float32])
        results = []
        for i in range(len(rows)):
            value, moved = _integral(rows, slice(i, i + 1), goal)
            if not moved <= goal:
                raise UserError(
                    f"evidence=exact: the quadrature of row {int(rows.keys.index[i])} does not settle (doubling its "
                    f"resolution moved it by {moved.item():.2g} nats); use evidence=importance or ais."
                )
            results.append(torch.stack([value, moved]))
            rows.tick((i + 1) / len(rows))
        value, moved = torch.stack(results, 1)
        return LogEvidence(self.name, self.kind, value, torch.zeros_like(value), diagnostics={"resolution": moved})


def _low(target: Target) -> bool:
    return target.prior is not None and tuple(target.prior.event_shape) in ((1,), (2,))


def _integral(rows: Rows, one: slice, goal: float) -> tuple[Tensor, Tensor]:
    def log_f(z: Tensor) -> Tensor:
        return rows.target.log_joint(rows.x[one], z.unsqueeze(1).to(rows.x.dtype))[:, 0].double()

    prior = rows.target.prior
    assert prior is not None
    low, high = quadrature.start(prior, rows.q(one))
    ends = quadrature.limits(prior)
    for _ in range(WIDER):
        value, moved, cut = quadrature.integrate(log_f, low, high, goal)
        cut = cut & torch.stack([low > ends[0], high < ends[1]])
        if not cut.any():
            return value, moved
        width = high - low
        low, high = torch.maximum(ends[0], low - width * cut[0]), torch.minimum(ends[1], high + width * cut[1])
    return value, torch.full_like(moved, torch.inf)
