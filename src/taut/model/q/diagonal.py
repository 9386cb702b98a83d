"""Gaussian q with a diagonal covariance."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from taut.distributions.gaussian import Gaussian
from taut.model.joint import Joint
from taut.model.q.base import Amortised, dimension, kept_clear, onto_support

LIMIT = 30.0
"""Beyond which a log-variance stays."""


class Diagonal(Amortised):
    r"""$q(z \mid x) = N(z; m(x), \mathrm{diag}\, e^{s(x)})$ (Kingma & Welling, 2014).

    The log-variance s is kept in [-30, 30]. Under a prior with bounded support, z is carried onto it by a sigmoid,
    from a mean within 6 and a variance of at most 1.

    Args:
        joint: The model.
        x_shape: Shape of one datum.
        encoder: Builds the network that gives m and s.
    """

    def __init__(self, joint: Joint, x_shape: Sequence[int], encoder: Callable[..., nn.Module]) -> None:
        super().__init__(joint, x_shape, 2 * dimension(joint, "diagonal"), encoder)

    def distribution(self, parameters: Float[Tensor, "b out"]) -> Distribution:
        mean, log_variance = parameters.chunk(2, -1)
        mean, log_variance = kept_clear(mean, log_variance, self.joint.prior)
        std = (0.5 * log_variance.clamp(-LIMIT, LIMIT)).exp()
        return onto_support(Gaussian.of(mean, std), self.joint.prior)
