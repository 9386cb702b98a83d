"""log p(x) exactly: in closed form, as a finite sum, or by quadrature."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.errors import UserError
from taut.evidence import peaks, quadrature
from taut.evidence.base import Evidence
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.evidence.target import Target
from taut.functional import seeding
from taut.functional.bounds import log_mean_exp, log_sum_exp
from taut.model.draws import draw_seeded

WIDER = 12
"""Times a box may grow by its own width on a side where it cuts mass off."""
DEVIATIONS = 10.0
"""Standard deviations from every mark to the ends of the first box."""
GOAL = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Nats by which halving the cells may still move an integral, by the precision of the model."""
DRAWS = 1024
"""Draws of q, and of the prior, that tell where the mass is and check the integral."""
CHANCE = 20.0
"""Minus the log of the probability with which a right integral fails the check."""


class Exact(Evidence):
    r"""$\log p(x)$ in closed form, as $\sum_z p(x, z)$ over a discrete z, or by quadrature over one or two dimensions.

    The quadrature (Gauss-Legendre rules on cells that are halved where the integral is unsettled) begins with cells
    made small around every place where a peak may be: components of prior and q, and the maxima that searches from
    their draws find. It ends when halving moves it by less than 1e-9 (float32: 1e-4) nats; ``resolution`` is by how
    much it did. The estimates by importance sampling from q and from the components of the prior must not lie above
    it by more than chance allows.

    Raises:
        UserError: From ``check``, if z has more dimensions and no closed form is known; if a quadrature does not
            settle, or misses mass that samples find.
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
        # log_joint need not broadcast: it is promised a z for each datum
        z = z.expand(len(z), len(rows), *z.shape[2:])
        return log_sum_exp(rows.target.log_joint(rows.x, z).double())

    def _integrated(self, rows: Rows) -> LogEvidence:
        goal = GOAL.get(rows.target.precision or rows.x.dtype, GOAL[torch.float32])
        results = []
        for i in range(len(rows)):
            results.append(_integral(rows.part(slice(i, i + 1)), goal))
            rows.tick((i + 1) / len(rows))
        value, moved = torch.stack(results, 1)
        return LogEvidence(self.name, self.kind, value, torch.zeros_like(value), diagnostics={"resolution": moved})


def _low(target: Target) -> bool:
    return target.prior is not None and tuple(target.prior.event_shape) in ((1,), (2,))


def _integral(one: Rows, goal: float) -> Tensor:
    """The integral of one datum and about by how much it may be wrong.

    Raises:
        UserError: If it does not settle, or lies below what importance sampling finds.
    """

    def log_f(z: Tensor) -> Tensor:
        z = z if one.target.precision is not None else z.to(one.x.dtype)  # models of this package take it in float64
        return one.target.log_joint(one.x, z.unsqueeze(1))[:, 0].double()

    prior, row = one.target.prior, int(one.keys.index[0])
    assert prior is not None
    found = [
        _drawn(one, log_f, "q", one.q(slice(None))),
        _drawn(one, log_f, "the prior", peaks.equally_weighted(prior)),
    ]
    low, high = (end.to(one.x.device) for end in peaks.limits(prior))
    where = peaks.marked(log_f, [prior, one.q(slice(None))], [(each.z, each.log_f) for each in found], (low, high))
    value, moved = _grown(log_f, goal, where, low, high)
    # `not <=` instead of `>`: a NaN has not settled
    if not moved <= goal:
        raise UserError(
            f"evidence=exact: the quadrature of row {row} does not settle: on the finest grid it may still be off by "
            f"{moved.item():.2g} nats; use evidence=importance or ais."
        )
    for each in found:
        if each.contradicts(value):
            raise UserError(
                f"evidence=exact: the quadrature of row {row} misses mass: importance sampling from {each.name} finds "
                f"{(each.log_mean - value).item():.2g} nats more, and not by chance; use evidence=importance or ais."
            )
    return torch.stack([value, moved])


def _grown(
    log_f: quadrature.LogDensity, goal: float, where: quadrature.Marks, least: Tensor, most: Tensor
) -> tuple[Tensor, Tensor]:
    """The integral over a box that holds every mark and grows while it cuts mass off."""
    known = (
        where.centre[:, None] + torch.tensor([-1.0, 1.0]).to(where.centre)[:, None] * DEVIATIONS * where.scale[:, None]
    )
    low, high = torch.maximum(least, known.amin((0, 1))), torch.minimum(most, known.amax((0, 1)))
    for _ in range(WIDER):
        value, moved, cut = quadrature.integrate(log_f, low, high, goal, where)
        cut = cut & torch.stack([low > least, high < most])
        if not cut.any() or not moved <= goal:
            return value, moved
        width = high - low
        low, high = torch.maximum(least, low - width * cut[0]), torch.minimum(most, high + width * cut[1])
    return value, torch.full_like(moved, torch.inf)


@dataclass(frozen=True)
class Drawn:
    r"""Draws of a distribution of z, and the estimate of p(x) by importance sampling that they make.

    Args:
        name: Name of the distribution.
        z: The draws.
        log_f: $\log p(x, z)$ of each, nats.
        log_w: The same less the log-density they were drawn with.
    """

    name: str
    z: Float[Tensor, "k d"]
    log_f: Float[Tensor, " k"]
    log_w: Float[Tensor, " k"]

    @property
    def log_mean(self) -> Float[Tensor, ""]:
        """The log of the estimate."""
        return log_mean_exp(self.log_w)

    def contradicts(self, value: Float[Tensor, ""]) -> bool:
        r"""True where the estimate lies above ``value`` by more than chance explains, at a level of about $10^{-9}$.

        For any weights the log of an unbiased estimate exceeds the truth by $b$ with probability $e^{-b}$ at most
        (Markov). By less, it must exceed the empirical Bernstein bound $\sqrt{2 b V / K} + 3 b R / K$ (Audibert, Munos
        & Szepesv\'ari, 2009) with the variance V and, in the place of the range, the largest R of the K weights: a
        few large weights never do.
        """
        ratio = (self.log_w - value).exp()
        allowed = (2 * CHANCE * ratio.var() / len(ratio)).sqrt() + 3 * CHANCE * ratio.max() / len(ratio)
        # where exp overflows only Markov's bound is left to judge by
        return bool((self.log_mean > value + CHANCE) | (ratio.isfinite().all() & (ratio.mean() - 1 > allowed)))


def _drawn(one: Rows, log_f: quadrature.LogDensity, name: str, distribution: Distribution) -> Drawn:
    (seed,) = one.keys.for_purpose(f"exact/{name}").seeds()
    with seeding.forked(one.x.device):
        z = draw_seeded(distribution, DRAWS, seed, one.x.device)
    log_density = distribution.log_prob(z).double().flatten()
    points = z.reshape(DRAWS, -1).double()
    # outside of its support a density may be NaN, and has no mass
    values = log_f(points).nan_to_num(-torch.inf)
    return Drawn(name, points, values, values - log_density)
