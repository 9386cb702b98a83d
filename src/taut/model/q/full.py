"""Gaussian q with a full covariance."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, constraints

from taut.model.joint import Joint
from taut.model.q.base import Amortised, dimension, kept_clear, onto_support


class Full(Amortised):
    r"""$q(z \mid x) = N(z; m(x), L(x) L(x)^\top)$, L lower triangular with a positive diagonal $e^{s(x)/2}$.

    The log-variance s is kept in [-30, 30]. Under a prior with bounded support, z is carried onto it by a sigmoid,
    from a mean within 6 and variances of at most about 2.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives m, s and the entries of L below the diagonal.
    """

    below: Tensor

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        d = dimension(joint, "full")
        super().__init__(joint, x_shape, 2 * d + d * (d - 1) // 2, encoder)
        self.d = d
        # made of d alone, so it needs no place in a checkpoint
        self.register_buffer("below", torch.tril_indices(d, d, -1), persistent=False)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Distribution:
        mean, log_variance, entries = parameters.split([self.d, self.d, self.below.shape[1]], -1)
        if self.joint.prior.support is not constraints.real_vector:
            mean, log_variance = kept_clear(mean, log_variance, self.joint.prior)
            # the entries of a row then add less than 1 to a variance, and the sigmoid does not saturate
            entries = entries.tanh() / self.d
        lower = torch.diag_embed((0.5 * log_variance.clamp(-30, 30)).exp())
        lower = lower.index_put((torch.arange(len(mean), device=mean.device)[:, None], *self.below), entries)
        return onto_support(MultivariateNormal(mean, scale_tril=lower, validate_args=False), self.joint.prior)
