r"""Information of z about x under q: the KL of q to the prior, taken apart.

$\frac1n \sum_i KL(q(z|x_i) \| p(z)) = I(x; z) + KL(q(z) \| p(z))$ with $q(z) = \frac1n \sum_i q(z|x_i)$ (Hoffman &
Johnson, 2016): how well z tells the n data apart, and how far all their z together are from the prior.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, OneHotCategorical, kl_divergence

from taut.distributions.categories import Categories
from taut.distributions.chain import Chain
from taut.evidence.rows import Rows
from taut.functional import seeding
from taut.functional.bounds import log_mean_exp
from taut.functional.precision import exact_arithmetic
from taut.functional.statistics import variance_of_mean
from taut.functional.types import PerDatum
from taut.model.draws import draw_keyed

MAX_DATA = 1000
"""Data that are told apart: every draw is scored under the q of each."""
DRAWS, PAIRS = (16, 256), 2**24
"""Fewest and most draws of z for each datum, and about how many pairs of a draw and a q they may make."""
NUMBERS = 2**21
"""Coordinates held at once."""


@dataclass(frozen=True)
class Information:
    r"""The two parts of the KL for each datum; nats, float64.

    Args:
        mutual: $E_{q(z|x_i)} \log q(z|x_i) / q(z)$; their mean is $I(x; z)$, at most $\log n$.
        marginal: $E_{q(z|x_i)} \log q(z) / p(z)$; their mean is $KL(q(z) \| p(z))$.
        kl_variance: Monte Carlo variance of their sum.
        mutual_variance: Monte Carlo variance of ``mutual``.
        marginal_variance: Monte Carlo variance of ``marginal``.
        by_dimension: $KL(q(z_j|x_i) \| p(z_j))$ in closed form, ``[n, d]``; no columns where q or the prior does not
            factorise, or no closed form is known.
        by_layer: $E_q[\log q(h_l|\dots) - \log p(h_l|\dots)]$ of each layer of z, ``[n, layers]``, whose sum is
            the KL; no columns where q is no chain of layers.
        by_layer_variance: Monte Carlo variance of ``by_layer``.
        mean_z: $E_q[z]$, ``[n, d]``; no columns for a category.
        noise_z: Monte Carlo variance of ``mean_z``; 0 where q knows its mean.
    """

    mutual: PerDatum
    marginal: PerDatum
    kl_variance: PerDatum
    mutual_variance: PerDatum
    marginal_variance: PerDatum
    by_dimension: Float[Tensor, "n columns"]
    by_layer: Float[Tensor, "n layers"]
    by_layer_variance: Float[Tensor, "n layers"]
    mean_z: Float[Tensor, "n d"]
    noise_z: Float[Tensor, "n d"]

    @property
    def kl(self) -> PerDatum:
        r"""$KL(q(z|x_i) \| p(z))$, from the same draws as its parts."""
        return self.mutual + self.marginal

    def select(self, index: Int[Tensor, " m"]) -> "Information":
        """Some of the data, or all in another order."""
        return Information(*(values[index] for values in vars(self).values()))

    def cpu(self) -> "Information":
        """Copy the numbers to main memory."""
        return Information(*(values.cpu() for values in vars(self).values()))

    @staticmethod
    def cat(parts: "Sequence[Information]") -> "Information":
        """Append the numbers of further data."""
        return Information(
            *(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True))
        )


def information_of(rows: Rows, every: Distribution) -> Information:
    """Take the KL of some data apart, by sums over a category or from draws of each q.

    Args:
        rows: The data; the index of each is its place in ``every``.
        every: q of all n data; all in IEEE arithmetic and without a graph.
    """
    prior, index = rows.target.prior, rows.keys.index
    assert prior is not None, "the prior is one of the two that are compared"
    with exact_arithmetic(rows.x.device):
        return _summed(every, prior, index) if isinstance(every, OneHotCategorical) else _drawn(rows, every, prior)


def _drawn(rows: Rows, every: Distribution, prior: Distribution) -> Information:
    """Means over draws of each q."""
    q = rows.q(slice(None))
    z, own, every_q, log_p = _scored(rows, every, prior)
    mutual, marginal = own - every_q, every_q - log_p
    mean, spread = _mean(q, z)
    return Information(
        mutual.mean(0),
        marginal.mean(0),
        variance_of_mean(mutual + marginal),
        variance_of_mean(mutual),
        variance_of_mean(marginal),
        _by_dimension(q, prior, torch.zeros_like(mean)),
        *_by_layer(q, prior, z),
        mean,
        spread,
    )


def draws_of(n: int) -> int:
    """Draws of z for each of n data: the fewer the data, the more, at about the same cost."""
    return min(max(DRAWS[0], PAIRS // n**2), DRAWS[1])


def _summed(every: OneHotCategorical, prior: Distribution, index: Int[Tensor, " b"]) -> Information:
    """Sums over a category: no noise, and no latent units."""
    log_q, log_p = every.logits.double(), prior.log_prob(prior.enumerate_support()).double()
    every_q, own = log_mean_exp(log_q), log_q[index]
    parts = own - every_q, every_q - log_p
    # 0 times an infinite difference would be NaN
    mutual, marginal = (torch.where(own.isfinite(), own.exp() * part, 0.0).sum(1) for part in parts)
    none, empty = torch.zeros_like(mutual), own.new_zeros((len(own), 0))
    return Information(mutual, marginal, none, none, none, empty, empty, empty, empty, empty)


def _scored(rows: Rows, every: Distribution, prior: Distribution) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draws of each datum, ``[k, b, d]``, and their log q(z|x), log q(z) and log p(z), ``[k, b]``."""
    n, d = every.batch_shape[0], every.event_shape.numel()
    k = draws_of(n)
    own, every_q, log_p = torch.zeros(3, k, len(rows), dtype=torch.float64, device=rows.x.device)
    z = torch.zeros(k, len(rows), d, dtype=torch.float64, device=rows.x.device)
    keys = rows.keys.for_purpose("information")
    chunk_size = max(1, NUMBERS // (n * d))  # each draw is compared with the q of every datum
    with seeding.forked(rows.x.device):
        for drawn in draw_keyed(rows.q, keys, k, chunk_size=chunk_size):
            here = drawn.samples, drawn.rows
            place = keys.index[drawn.rows].expand(len(drawn.z), -1).unsqueeze(-1)
            log_q = _under_every(every, drawn.z)
            log_q = log_q.scatter(2, place, drawn.log_qz.unsqueeze(-1))  # the very q each z was drawn from
            own[here] = drawn.log_qz
            every_q[here] = log_mean_exp(log_q.movedim(2, 0))
            log_p[here] = prior.log_prob(drawn.z).double()
            z[here] = drawn.z.flatten(2).double()
    return z, own, every_q, log_p


def _under_every(every: Distribution, z: Float[Tensor, "k b *z"]) -> Float[Tensor, "k b n"]:
    """Log q(z|x) of each z and every x.

    Of Gaussians of one covariance L L', as the posteriors of a linear model are where no cell is missing, as distances
    between all $L^{-1} z$ and $L^{-1} m$: torch's density solves anew for each pair, and takes 25 times as long.
    """
    n = every.batch_shape[0]
    if isinstance(every, MultivariateNormal) and (every.scale_tril == every.scale_tril[0]).all():
        factor = every.scale_tril[0].double()
        whitened, centres = (
            torch.linalg.solve_triangular(factor, points.double().flatten(0, -2).mT, upper=False).mT.contiguous()
            for points in (z, every.loc)
        )
        # not by products of the two, whose difference would cancel
        distances = torch.cdist(whitened, centres, compute_mode="donot_use_mm_for_euclid_dist")
        constant = factor.diagonal().log().sum() + 0.5 * len(factor) * math.log(2 * math.pi)
        return (-0.5 * distances.square() - constant).unflatten(0, z.shape[:2])
    return every.log_prob(z.unsqueeze(2).expand(-1, -1, n, *z.shape[2:])).double()


def _mean(q: Distribution, z: Float[Tensor, "k b d"]) -> tuple[Tensor, Tensor]:
    """E_q[z] and the Monte Carlo variance it is known with."""
    try:
        mean = q.mean.double().flatten(1)
    except NotImplementedError:
        # torch raises where a distribution knows no mean
        return z.mean(0), variance_of_mean(z)
    return mean, torch.zeros_like(mean)


def _by_layer(q: Distribution, prior: Distribution, z: Float[Tensor, "k b d"]) -> tuple[Tensor, Tensor]:
    """The term of the KL of each layer, ``[b, layers]``, and its Monte Carlo variance."""
    if not (isinstance(q, Chain) and isinstance(prior, Chain)):
        return z.new_zeros(z.shape[1], 0), z.new_zeros(z.shape[1], 0)
    terms = (q.log_prob_of_layers(z) - prior.log_prob_of_layers(z)).transpose(0, 1)
    return terms.mean(0).mT, variance_of_mean(terms).mT


def _by_dimension(q: Distribution, prior: Distribution, like: Float[Tensor, "b d"]) -> Float[Tensor, "b columns"]:
    if isinstance(q, (Independent, Categories)) and isinstance(prior, (Independent, Categories)):
        try:
            # expanded, since torch's formula for bits does not broadcast
            return kl_divergence(q.base_dist, prior.base_dist.expand(q.base_dist.batch_shape)).double().flatten(1)
        except NotImplementedError:
            pass
    return like[:, :0]
