"""Gaussian q with a covariance of a diagonal and a low rank."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, LowRankMultivariateNormal, constraints

from taut.model.joint import Joint
from taut.model.q.base import Amortised, dimension, kept_clear, onto_support

LIMIT = 1e3
"""Beyond which an entry of V stays: its square is what the density loses of sixteen digits."""


class LowRank(Amortised):
    r"""$q(z \mid x) = N(z; m, D^{1/2} (I + V V^\top) D^{1/2})$, $D = \mathrm{diag}\, e^s$ and V of r columns.

    Between ``diagonal`` and ``full``: r directions in which coordinates vary together (Rezende, Mohamed & Wierstra,
    2014; Ong, Nott & Smith, 2018), at a cost linear in their number. V is the network's output plus the first r
    columns of the identity: at V = 0 no direction would have a gradient. The log-variance s is kept in [-30, 30]. Under
    a prior with bounded support, z is carried onto it by a sigmoid, from a mean within 6 and variances of at most 2.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives m, s and V.
        rank: Number of directions r.
    """

    first: Tensor

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module], rank: int = 2) -> None:
        d = dimension(joint, "low_rank")
        super().__init__(joint, x_shape, (2 + rank) * d, encoder)
        # made of d and r alone, so it needs no place in a checkpoint
        self.register_buffer("first", torch.eye(d, rank), persistent=False)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Distribution:
        d, rank = self.first.shape
        # torch factorises the capacitance as it builds: in float64 from here, or its rounding were that of float32
        mean, log_variance, entries = parameters.double().split([d, d, d * rank], -1)
        factor = (entries.unflatten(-1, (d, rank)) + self.first).clamp(-LIMIT, LIMIT)
        if self.joint.prior.support is not constraints.real_vector:
            mean, log_variance = kept_clear(mean, log_variance, self.joint.prior)
            # the entries of a row then add less than the variance itself, and the sigmoid does not saturate
            factor = factor.tanh() / rank**0.5
        log_variance = log_variance.clamp(-30, 30)
        factor = factor * (0.5 * log_variance).exp().unsqueeze(-1)
        gaussian = LowRankMultivariateNormal(mean, factor, log_variance.exp(), validate_args=False)
        return onto_support(gaussian, self.joint.prior)
