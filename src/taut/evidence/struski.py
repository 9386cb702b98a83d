"""An upper bound from samples of q alone, on real data."""

from math import log
from typing import ClassVar

from taut.errors import UserError
from taut.evidence.base import Evidence, count
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.functional import bounds

FEWEST_BLOCKS, MOST_BLOCKS = 4, 64


class Struski(Evidence):
    r"""$\log p(x) \le E[\log X] + E[Y / X] - 1$, X and Y independent means of weights (Struski et al., 2023).

    True in expectation for any q, because $\log a \le \log x + a / x - 1$ for every $x > 0$. Each of the B blocks of
    the samples is Y once, with the mean of all others as X: the bound lies $\frac{B}{B - 1} \frac{v}{2K}$ above
    $\log p(x)$ to first order, with the relative variance v of the weights, and on the same samples never below
    importance sampling. But rare large weights carry the expectation: where they are, the noise is heavy-tailed and its
    stated error too small, and where q misses a mode the samples never meet them, so the value lies below $\log p(x)$
    with clean diagnostics. Bounds on simulated data (``u_k``, ``bdmc``) do not rest on q and show it. ``correction`` is
    $E[Y/X] - 1$; above about 1 the bound says little.

    Args:
        k: Number of samples K of each datum, 2 or more.
        blocks: Number B of blocks, 2 to 64: more give a tighter bound and a surer error. By default the largest number
            from 4 to 64 that divides K.

    Raises:
        UserError: If the blocks do not tile the samples.
    """

    name: ClassVar[str] = "struski"
    kind: ClassVar[Kind] = "upper"

    def __init__(self, k: int = 1000, blocks: int | None = None) -> None:
        self.k = count("evidence.struski.k", k, 2)
        most = min(k, MOST_BLOCKS)
        tiles = [n for n in range(2, most + 1) if k % n == 0 and (n >= FEWEST_BLOCKS or n == k)]
        if blocks is not None and (count("evidence.struski.blocks", blocks, 2) > most or k % blocks):
            raise UserError(f"evidence.struski.blocks={blocks} does not divide k={k} into at most {most} equal blocks.")
        if blocks is None and not tiles:
            raise UserError(
                f"evidence.struski.k must be a multiple of 4, because the samples are divided into 4 to {MOST_BLOCKS} "
                f"equal blocks, got {k}."
            )
        self.blocks = blocks or tiles[-1]

    @property
    def cost(self) -> float:
        return 0.1 * self.k  # the samples are those of importance sampling

    def estimate(self, rows: Rows) -> LogEvidence:
        weights = rows.weights(self.k)
        means = bounds.log_mean_exp(weights.log_w.unflatten(0, (self.blocks, -1)).transpose(0, 1))  # [blocks, b]
        value = bounds.leave_one_out_upper(means)
        log_x = bounds.leave_one_out(means).mean(0) - log(self.blocks - 1)
        noise = bounds.variance_of_leave_one_out_upper(means, self.blocks)
        diagnostics = weights.diagnostics() | {"correction": value - log_x}
        return LogEvidence(self.name, self.kind, value, noise, self.k, diagnostics=diagnostics)
