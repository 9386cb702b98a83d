r"""Log-weights of one proposal, and what they say about themselves."""

import math
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from taut.functional import bounds
from taut.functional.statistics import variance_of_mean
from taut.functional.types import LogWeights, PerDatum

EQUAL = 1e-9
"""Nats within which log-weights are equal: what differs is rounding, and rounding has no tail."""
FEWEST = 25
"""Weights below which no tail is fitted: the fit wants five values in the largest fifth."""


class Weights:
    r"""K log-weights of each datum under one proposal, and their diagnostics, each computed once.

    Args:
        log_w: $\log w = \log p(x, z) - \log q(z)$, float64, nats.
    """

    def __init__(self, log_w: LogWeights) -> None:
        self.log_w = log_w

    @property
    def k(self) -> int:
        """Number of samples K of each datum."""
        return self.log_w.shape[0]

    @cached_property
    def share(self) -> Float[Tensor, "k b"]:
        r"""$w_k / \sum_j w_j$."""
        return bounds.normalised_weights(self.log_w)

    @cached_property
    def iwae(self) -> PerDatum:
        r"""$\log \frac1K \sum_k w_k$."""
        return bounds.iwae(self.log_w)

    @cached_property
    def iwae_variance(self) -> PerDatum:
        r"""Monte Carlo variance of ``iwae`` by the delta method: $\mathrm{Var}(w) / (K \bar w^2)$; NaN at K = 1."""
        return variance_of_mean(self.k * self.share)

    @cached_property
    def ess(self) -> PerDatum:
        """Kish's effective sample size."""
        return bounds.effective_sample_size(self.log_w)

    @cached_property
    def max_weight(self) -> PerDatum:
        """The largest normalised weight: above 1/2 one sample decides."""
        return self.share.amax(0)

    @cached_property
    def khat(self) -> PerDatum:
        r"""Shape $\hat k$ of the generalised Pareto tail of the weights (Vehtari et al., 2024), as arviz fits it.

        Moments of order below $1/\hat k$ exist: the mean converges slowly above 0.7 and not at all above 1. Where the
        largest weights span more than float64 holds, the estimator of Hill (1975), of log-weights, takes its place. NaN
        where no tail can be fitted: fewer than 25 samples, or a largest fifth of equal weights.
        """
        columns = self.log_w.T.cpu().numpy()
        return torch.tensor([_khat(column) for column in columns], dtype=torch.float64, device=self.log_w.device)

    @cached_property
    def jackknife(self) -> PerDatum:
        """First-order jackknife of ``iwae``, see :mod:`taut.evidence.jackknife`."""
        return bounds.jackknife(self.log_w)

    def diagnostics(self) -> dict[str, PerDatum]:
        """Diagnostics: ess, max_weight, khat, extrapolated (the 1/K law from K/2 and K), bias (of the jackknife)."""
        values = {"ess": self.ess, "max_weight": self.max_weight, "khat": self.khat}
        if self.k > 1:
            values["bias"] = self.iwae - self.jackknife
        if self.k > 1 and self.k % 2 == 0:
            values["extrapolated"] = 2 * self.iwae - bounds.block_bound(self.log_w, self.k // 2)
        return values


def _khat(log_w: Float[np.ndarray, " k"]) -> float:
    if len(log_w) < FEWEST or not np.isfinite(log_w).all():
        log_w = log_w[np.isfinite(log_w)]
    if len(log_w) < FEWEST or np.ptp(log_w) < EQUAL:
        return float("nan")
    tail = min(len(log_w) // 5, math.ceil(3 * math.sqrt(len(log_w))))
    # weights that round to zero look equal to arviz, which then finds no tail in the heaviest of all
    if np.count_nonzero(np.exp(log_w - log_w.max())) <= tail:
        largest = np.sort(log_w)[-tail - 1 :]
        return float((largest[1:] - largest[0]).mean())
    from arviz_stats.base.array import array_stats  # not loaded unless used

    try:
        with np.errstate(all="ignore"):
            return float(array_stats.psislw(-log_w)[1])  # it takes the negative of what it calls log-weights
    except ValueError:  # equal weights have no tail
        return float("nan")
