"""An upper bound from samples of q alone, on real data."""

from typing import ClassVar

import torch
from torch import Tensor

from taut.errors import UserError
from taut.evidence.base import Evidence, count
from taut.evidence.log_evidence import Kind, LogEvidence
from taut.evidence.rows import Rows
from taut.functional.bounds import log_mean_exp
from taut.functional.statistics import variance_of_mean
from taut.functional.types import LogWeights

FEWEST_BLOCKS, MOST_BLOCKS = 4, 64


class Struski(Evidence):
    r"""$\log p(x) \le E[\log X] + E[Y / X] - 1$, X and Y independent means of $K/B$ weights (Struski et al., 2023).

    True in expectation for any q, because $\log a \le \log x + a / x - 1$; each of the B blocks of the samples is an X
    once and a Y for all others, which keeps the estimate unbiased. But rare large weights carry the expectation: where
    they are, the noise is heavy-tailed and its stated error too small, and where q misses a mode the samples never
    meet them, so the value lies below $\log p(x)$ with clean diagnostics. Bounds on simulated data (``u_k``, ``bdmc``)
    do not rest on q and show it. ``correction`` is $E[Y/X] - 1$; above about 1 the bound says little.

    Args:
        k: Number of samples K of each datum, 2 or more.
        blocks: Number B of blocks, 2 to 64: fewer give a tighter bound and a rougher error. By default the smallest
            number of 4 or more that divides K.

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
        self.blocks = blocks or tiles[0]

    @property
    def cost(self) -> float:
        return 0.1 * self.k  # the samples are those of importance sampling

    def estimate(self, rows: Rows) -> LogEvidence:
        weights = rows.weights(self.k)
        means = log_mean_exp(weights.log_w.unflatten(0, (self.blocks, -1)).transpose(0, 1))  # [blocks, b]
        parts = bound_parts(means)
        diagnostics = weights.diagnostics() | {"correction": parts.mean(0) - means.mean(0)}
        return LogEvidence(self.name, self.kind, parts.mean(0), _variance(means), self.k, diagnostics=diagnostics)


def bound_parts(log_means: LogWeights) -> Tensor:
    r"""$\log X_i + \frac{1}{B-1} \sum_{j \ne i} Y_j / X_i - 1$ for each block i; $+\infty$ where X is zero."""
    blocks = len(log_means)
    ratios = (log_means.unsqueeze(0) - log_means.unsqueeze(1)).exp()  # [x, y, b]
    # less 1, the ratio of a block to itself
    others = (ratios.sum(1) - 1) / (blocks - 1)
    # a block without mass has ratios of NaN
    return torch.where(log_means.isfinite(), log_means + others - 1, torch.inf)


def _variance(log_means: LogWeights) -> Tensor:
    """Variance of the mean of ``bound_parts`` by leaving out one block at a time; infinite with two blocks."""
    blocks = len(log_means)
    if blocks == 2:
        return torch.full_like(log_means[0], torch.inf)
    keep = [[j for j in range(blocks) if j != i] for i in range(blocks)]
    left = torch.stack([bound_parts(log_means[rest]).mean(0) for rest in keep])
    return variance_of_mean(left) * (blocks - 1) ** 2
