r"""Gradients of the objectives by a diagonal q, short enough to write down; the prior is standard normal.

With $z_k = m + e^{s/2} \odot \epsilon_k$, weights $r_k$ of the draws and $g_k = \nabla_z \log p(x \mid z_k)$,

$$\nabla_m = \textstyle\sum_k r_k\,(g_k - \beta z_k), \qquad
  \nabla_s = \tfrac12 e^{s/2} \odot \textstyle\sum_k r_k\,(g_k - \beta z_k) \odot \epsilon_k + \tfrac{\beta}2,$$

for ``iwae`` ($r_k = \tilde w_k$) and the sampled ELBO ($r_k = 1/K$), as $\log q(z_k \mid x)$ depends on $s$ alone once
$\epsilon_k$ is given; with the closed form of the KL (``elbo``), $\sum_k r_k g_k$ takes the place of the first factor,
and $-\beta m$ and $\frac\beta2 (1 - e^{s})$ that of the last terms; and with $c_k = 1 - \beta + \beta \tilde w_k$
(``dreg``, Tucker et al., 2019),

$$\nabla_m = \textstyle\sum_k c_k r_k\,(g_k - \beta z_k + \beta e^{-s/2} \odot \epsilon_k), \qquad
  \nabla_s = \tfrac12 e^{s/2} \odot \textstyle\sum_k c_k r_k\,(\ldots) \odot \epsilon_k.$$

Through few of the draws (``objective.backward``) the sums are over these, and $r_k$ is what each counts
(:mod:`taut.functional.resampling`): $\tilde w_k$ on average, and 1 in sum.
"""

from collections.abc import Callable
from math import log
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from taut.distributions.gaussian import standard_normal
from taut.functional.resampling import resample
from taut.functional.types import LogWeights, PerDatum
from taut.model.draws import without_traces
from taut.model.q.diagonal import LIMIT
from taut.objective.base import Objective
from taut.objective.dreg import Dreg
from taut.objective.elbo import Elbo
from taut.objective.iwae import Iwae

Rows = Int[Tensor, " m*b"]


def some(of: Float[Tensor, "k b w"], rows: Rows | None) -> Float[Tensor, "m b w"]:
    """What belongs to some of the draws, or to all."""
    return of if rows is None else of.flatten(0, 1).index_select(0, rows).view(-1, *of.shape[1:])


class Latents(NamedTuple):
    """Draws of z, and the q they are from, in the precision of the networks; sums over coordinates in float64.

    Args:
        z: The draws, ``[k, b, d]``.
        noise: Their standard normal noise.
        mean: Of q, ``[b, d]``.
        std: Of q.
        inside: Whether a log-variance moves q: within the limits of ``Diagonal``.
        log_std: Sum of the logarithms of ``std``, ``[b]``.
    """

    z: Float[Tensor, "k b d"]
    noise: Float[Tensor, "k b d"]
    mean: Float[Tensor, "b d"]
    std: Float[Tensor, "b d"]
    inside: Bool[Tensor, "b d"]
    log_std: PerDatum

    @property
    def log_ratio(self) -> LogWeights:
        r"""$\log p(z) - \log q(z \mid x)$: what the two have in common is not there to be lost."""
        return torch.add(self.log_std, _squares(self.noise) - _squares(self.z), alpha=0.5)

    def at(self, rows: Rows) -> "Latents":
        """Some of the draws, equally many of each datum."""
        return self._replace(z=some(self.z, rows), noise=some(self.noise, rows))


def drawn(parameters: Float[Tensor, "b o"], k: int) -> Latents:
    """Draws from q, whose numbers are those of ``Diagonal``."""
    mean, log_variance = parameters.chunk(2, -1)
    kept = log_variance.clamp(-LIMIT, LIMIT)
    half = 0.5 * kept
    std = half.exp()
    noise = standard_normal(torch.Size((k, *mean.shape)), parameters.dtype, mean.device)
    log_std = half.sum(-1, dtype=torch.float64)
    return Latents(torch.addcmul(mean, noise, std), noise, mean, std, kept == log_variance, log_std)


class Rule(NamedTuple):
    """The gradient of a surrogate.

    Args:
        bound: What is reported of each datum.
        surrogate: Its value.
        weights: Gradient by the log p(x | z) of each draw that it goes back through.
        by_q: Of the gradient by z through log p(x | z), that by the mean and the log-variance of q, ``[b, 2 d]``.
        rows: Those draws, among all ``[k * b]`` in turn; None for all.
    """

    bound: PerDatum
    surrogate: Float[Tensor, ""]
    weights: LogWeights
    by_q: Callable[[Float[Tensor, "k b d"]], Float[Tensor, "b o"]]
    rows: Rows | None = None


class Weights(NamedTuple):
    r"""What the weights of some draws come to.

    Args:
        log_w: Logarithms of those that the gradient goes back through.
        bound: $\log \frac1K \sum_k w_k$ of each datum, from all draws.
        shares: $\tilde w_k = w_k / \sum_j w_j$ of those draws, without traces.
        counts: $r_k$ of those draws.
        latents: Those draws.
        rows: Where they stand among all; None where they are all.
    """

    log_w: LogWeights
    bound: PerDatum
    shares: LogWeights
    counts: LogWeights
    latents: Latents
    rows: Rows | None = None

    @classmethod
    def of(cls, log_w: LogWeights, latents: Latents, few: int | None) -> "Weights":
        """All from one exponential; the gradient goes back through few of the draws, where there are more."""
        k, b = log_w.shape
        if k == 1:
            ones = torch.ones_like(log_w)
            return cls(log_w, log_w[0], ones, ones, latents)
        top = log_w.amax(0)
        shares = (log_w - top).exp_()
        total = shares.sum(0)
        bound, shares = total.log() + (top - log(k)), without_traces(shares.div_(total))
        if few is None or few >= k:
            return cls(log_w, bound, shares, shares, latents)
        # the random numbers are those of the ordinary step
        index, counts = resample(shares, few, torch.rand(b))
        rows = torch.add(torch.arange(b), index, alpha=b).flatten()
        return cls(log_w.gather(0, index), bound, shares.gather(0, index), counts, latents.at(rows), rows)


def _of_iwae(objective: Objective, log_px: LogWeights, log_ratio: LogWeights, latents: Latents, beta: float) -> Rule:
    weights = Weights.of(torch.add(log_px, log_ratio, alpha=beta), latents, objective.backward)
    bound = weights.bound if beta == 1 else objective.bound(log_px + log_ratio)
    surrogate = -(weights.bound if weights.rows is None else (weights.counts * weights.log_w).sum(0)).mean()
    return _reparameterised(bound, surrogate, weights.counts, weights.latents, beta, weights.rows)


def _of_dreg(objective: Objective, log_px: LogWeights, log_ratio: LogWeights, latents: Latents, beta: float) -> Rule:
    weights = Weights.of(torch.add(log_px, log_ratio, alpha=beta), latents, objective.backward)
    bound = weights.bound if beta == 1 else objective.bound(log_px + log_ratio)
    surrogate, used = -(weights.counts * weights.log_w).sum(0).mean(), weights.latents
    by_log_w = weights.counts.float() / -len(bound)
    factor = 1 - beta + beta * weights.shares.float()

    def by_q(by_z: Tensor) -> Tensor:
        path = torch.addcmul(by_z, by_log_w[..., None], used.noise / used.std - used.z, value=beta)
        return _by_mean_and_log_variance(path * factor[..., None], used, 0.0)

    return Rule(bound, surrogate, by_log_w, by_q, weights.rows)


def _of_elbo(objective: Objective, log_px: LogWeights, log_ratio: LogWeights, latents: Latents, beta: float) -> Rule:
    assert isinstance(objective, Elbo)
    bound, equal = (log_px + log_ratio).mean(0), torch.full_like(log_px, 1 / len(log_px))
    if objective.kl == "sampled":
        return _reparameterised(bound, -torch.add(log_px, log_ratio, alpha=beta).mean(), equal, latents, beta)
    rows, mean, variance = log_px.shape[1], latents.mean.double(), latents.std.double().square()
    kl = 0.5 * (variance + mean.square() - 1).sum(-1) - latents.log_std

    def by_q(by_z: Tensor) -> Tensor:
        of_kl = torch.cat([mean, 0.5 * (variance - 1) * latents.inside], -1).float() * (beta / rows)
        return _by_mean_and_log_variance(by_z, latents, 0.0).add_(of_kl)

    return Rule(bound, (beta * kl - log_px.double().mean(0)).mean(), equal.float() / -rows, by_q)


Rules = Callable[[Objective, LogWeights, LogWeights, Latents, float], Rule]
RULES: dict[type, Rules] = {Elbo: _of_elbo, Iwae: _of_iwae, Dreg: _of_dreg}
"""The gradient, by objective."""


def _reparameterised(
    bound: PerDatum, surrogate: Tensor, counts: LogWeights, latents: Latents, beta: float, rows: Rows | None = None
) -> Rule:
    weights = counts.float() / -len(bound)

    def by_q(by_z: Tensor) -> Tensor:
        path = torch.addcmul(by_z, weights[..., None], latents.z, value=-beta)
        return _by_mean_and_log_variance(path, latents, -beta / len(bound))

    return Rule(bound, surrogate, weights, by_q, rows)


def _by_mean_and_log_variance(
    by_z: Float[Tensor, "k b d"], latents: Latents, by_entropy: float
) -> Float[Tensor, "b o"]:
    """Both from the gradient by z, and for the log-variance half of that by the entropy of q."""
    by_log_std = (by_z * latents.noise).sum(0).mul_(latents.std).add_(by_entropy).mul_(0.5).mul_(latents.inside)
    return torch.cat([by_z.sum(0), by_log_std], -1)


def _squares(value: Float[Tensor, "k b d"]) -> LogWeights:
    return torch.linalg.vecdot(value, value).double()
