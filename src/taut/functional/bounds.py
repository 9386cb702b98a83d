r"""Bounds of $\log p(x)$ as pure functions of log-weights, in nats.

Every function reads log-weights of shape ``[k, b]`` (sample axis first) and returns one number per datum. A weight of
zero (log-weight $-\infty$) is legal: it adds nothing and receives no gradient.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from taut.functional.statistics import variance_of_mean
from taut.functional.types import LogWeights, PerDatum


def log_sum_exp(log_w: Float[Tensor, "k *b"]) -> Float[Tensor, "*b"]:
    r"""$\log \sum_k e^{\log w_k}$ over the first axis; $-\infty$ (and a zero gradient) where all weights are 0."""
    shift = _largest(log_w)
    total = (log_w - shift).exp().sum(0)
    nothing = total == 0
    # the log of 1 in place of that of 0, whose gradient would be NaN although the branch is not taken
    return torch.where(nothing, -torch.inf, torch.where(nothing, 1.0, total).log() + shift)


def _largest(log_w: Float[Tensor, "k *b"]) -> Float[Tensor, "*b"]:
    # it cancels, so no gradient need pass through it
    shift = log_w.detach().amax(0)
    # -inf minus -inf would be NaN where all weights are 0
    return torch.where(shift.isfinite(), shift, 0.0)


def log_mean_exp(log_w: Float[Tensor, "k *b"]) -> Float[Tensor, "*b"]:
    r"""$\log \frac1K \sum_k e^{\log w_k}$ over the first axis."""
    return log_sum_exp(log_w) - log(log_w.shape[0])


def elbo(log_w: LogWeights) -> PerDatum:
    r"""Monte Carlo evidence lower bound, $\frac1K \sum_k \log w_k$ (Kingma & Welling, 2014)."""
    return log_w.mean(0)


def iwae(log_w: LogWeights) -> PerDatum:
    r"""Importance-weighted bound $\log \frac1K \sum_k w_k$ (Burda, Grosse & Salakhutdinov, 2016).

    Equal to :func:`elbo` at K = 1; in expectation non-decreasing in K and never above $\log p(x)$.
    """
    return log_mean_exp(log_w)


def block_bound(log_w: LogWeights, k: int) -> PerDatum:
    r"""IWAE-k averaged over the K/k disjoint blocks of one set of K samples.

    For k dividing k' dividing K the result never decreases from k to k', sample by sample (Jensen).

    Raises:
        ValueError: If the blocks do not tile the samples.
    """
    if log_w.shape[0] % k:
        raise ValueError(f"blocks of {k} do not tile {log_w.shape[0]} samples")
    return log_mean_exp(log_w.unflatten(0, (-1, k)).transpose(0, 1)).mean(0)


def variational_renyi(log_w: LogWeights, alpha: float) -> PerDatum:
    r"""VR-IWAE bound $\frac{1}{1-\alpha} \log \frac1K \sum_k w_k^{1-\alpha}$ (Daudel, Benton, Shi & Doucet, 2023).

    :func:`iwae` at $\alpha = 0$, :func:`elbo` at $\alpha = 1$ (the limit), and between the two, on the same weights,
    for $\alpha$ between them. Below 0 it is above :func:`iwae`, and bounds nothing (Li & Turner, 2016).
    """
    if alpha == 1:
        return elbo(log_w)
    shift = _largest(log_w)
    # less 1, because near alpha = 1 all powers are nearly 1, and the logarithm of their mean would be rounding
    excess = ((1 - alpha) * (log_w - shift)).expm1().mean(0)
    nothing = excess == -1
    # the log of 1 in place of that of 0, whose gradient would be NaN although the branch is not taken
    return torch.where(nothing, -torch.inf, torch.where(nothing, 0.0, excess).log1p() / (1 - alpha) + shift)


def thermodynamic_sum(log_w: LogWeights, path: Sequence[float], *, right: bool = False) -> PerDatum:
    r"""Riemann sum of $\log p(x) = \int_0^1 E_{\pi_\beta}[\log w]\, d\beta$ (Masrani, Le & Wood, 2019).

    $\pi_\beta(z) \propto q(z \mid x)\, w(z)^\beta$, whose expectations are taken with weights $w_k^\beta$ of K draws.
    These grow with $\beta$ and their integral is :func:`iwae`, whatever the draws: on the same weights the left sum is
    at most that and at least :func:`elbo`, the right sum is at least that.

    Args:
        log_w: Log-weights.
        path: $0 = \beta_0 < \dots < \beta_T = 1$.
        right: Take the value at the right end of each piece.
    """
    total = torch.zeros_like(log_w[0])
    for low, high in pairwise(path):
        total = total + (high - low) * _mean_on_path(log_w, high if right else low)
    # where no weight is above 0 there is nothing to take a mean with
    return torch.where((log_w == -torch.inf).all(0), -torch.inf, total)


def _mean_on_path(log_w: LogWeights, beta: float) -> PerDatum:
    if beta == 0:
        return log_w.mean(0)
    # what has no weight adds nothing, be it infinite
    return (normalised_weights(beta * log_w) * torch.where(log_w.isfinite(), log_w, 0.0)).sum(0)


def normalised_weights(log_w: LogWeights) -> LogWeights:
    r"""$\tilde w_k = w_k / \sum_j w_j$; all zero where every weight is zero."""
    total = log_sum_exp(log_w)
    # -inf minus -inf would be NaN where every weight is 0
    return (log_w - torch.where(total.isfinite(), total, 0.0)).exp()


def effective_sample_size(log_w: LogWeights) -> PerDatum:
    r"""Kish's effective sample size $(\sum_k w_k)^2 / \sum_k w_k^2$, between 1 and K (0 if all weights are 0)."""
    squares = normalised_weights(log_w).square().sum(0)
    return torch.where(squares == 0, 0.0, 1 / squares)


def leave_one_out(log_w: LogWeights) -> LogWeights:
    r"""$\log \sum_{j \ne k} w_j$ for every k.

    $\log S + \log(1 - w_k / S)$ where no weight holds more than half of the sum S; elsewhere, where that would lose all
    digits, from the sums of what stands before and behind.
    """
    total = log_sum_exp(log_w)
    share = (log_w - torch.where(total.isfinite(), total, 0.0)).exp()
    # the clamp keeps log1p finite in the columns that are replaced below
    left = total + torch.log1p(-share.clamp_max(0.5))
    hard = (share.amax(0) > 0.5) | ~total.isfinite()
    left[:, hard] = _around(log_w[:, hard])
    return left


def _around(log_w: LogWeights) -> LogWeights:
    nothing = torch.full_like(log_w[:1], -torch.inf)
    before = torch.cat([nothing, log_w[:-1]]).logcumsumexp(0)
    behind = torch.cat([log_w[1:], nothing]).flip(0).logcumsumexp(0).flip(0)
    return torch.logaddexp(before, behind)


def jackknife(log_w: LogWeights) -> PerDatum:
    r"""First-order jackknife of IWAE-K, $K L_K - (K-1) \frac1K \sum_k L_{K-1}^{(-k)}$ (Nowozin, 2018); no bound.

    $-\infty$ where every weight is zero, $+\infty$ where a single one is not.
    """
    return jackknife_parts(log_w).mean(0)


def jackknife_parts(log_w: LogWeights) -> LogWeights:
    r"""The pseudo-values $K L_K - (K-1) L_{K-1}^{(-k)}$, whose mean is :func:`jackknife`."""
    k = log_w.shape[0]
    without = leave_one_out(log_w) - torch.tensor(max(k - 1, 1), dtype=log_w.dtype, device=log_w.device).log()
    whole = iwae(log_w)
    # infinite values cancel to NaN where every weight is 0
    return torch.where(whole.isfinite(), k * whole - (k - 1) * without, whole) if k > 1 else log_w


def leave_one_out_upper(log_w: LogWeights) -> PerDatum:
    r"""$\frac1K \sum_k (\log X_k + w_k / X_k - 1)$, $X_k$ the mean of all weights but $w_k$: an upper bound on average.

    True because $\log a \le \log x + a / x - 1$ and $w_k$, of mean a, does not depend on $X_k$ (Struski et al., 2023,
    with one weight in the place of Y). As far above $\log p(x)$ as :func:`iwae` is below, $v / 2K$ to first order with
    the relative variance v of the weights. $+\infty$ where a weight stands alone.

    Raises:
        ValueError: If there is a single weight.
    """
    k = log_w.shape[0]
    if k < 2:
        raise ValueError("an upper bound needs two weights or more")
    others = leave_one_out(log_w) - log(k - 1)
    return torch.where(others.isfinite(), others + (log_w - others).exp() - 1, torch.inf).mean(0)


def variance_of_leave_one_out_upper(log_w: LogWeights, groups: int) -> PerDatum:
    r"""Monte Carlo variance of :func:`leave_one_out_upper`, by leaving out one of the groups of weights at a time.

    The jackknife: $(G - 1)^2$ times the variance of the mean of the G values without a group. Infinite where what is
    left is a single weight.

    Args:
        log_w: Log-weights.
        groups: Number G of groups, 2 or more, that divides K.
    """
    parts = log_w.unflatten(0, (groups, -1))
    if len(log_w) - parts.shape[1] < 2:
        return torch.full_like(log_w[0], torch.inf)
    left = [leave_one_out_upper(torch.cat([parts[:i], parts[i + 1 :]]).flatten(0, 1)) for i in range(groups)]
    return variance_of_mean(torch.stack(left)) * (groups - 1) ** 2


def block_curve(log_w: LogWeights) -> Float[Tensor, "sizes b"]:
    """:func:`block_bound` at every one of :func:`block_sizes`, each made of the sums of the size before it."""
    samples = log_w.shape[0]
    sums: dict[int, Tensor] = {1: log_w}
    curve = []
    for size in block_sizes(samples):
        part = max(known for known in sums if size % known == 0)
        sums[size] = (
            sums[part] if part == size else log_sum_exp(sums[part].unflatten(0, (-1, size // part)).transpose(0, 1))
        )
        curve.append((sums[size] - torch.tensor(size, dtype=log_w.dtype, device=log_w.device).log()).mean(0))
    return torch.stack(curve)


def block_sizes(samples: int) -> list[int]:
    """The sizes 1, 2, 5, 10, ... that tile ``samples``, and ``samples`` itself: abscissae of a bound-versus-K curve."""
    decades = [m * 10**e for e in range(len(str(samples))) for m in (1, 2, 5)]
    return [k for k in decades if k < samples and samples % k == 0] + [samples]
