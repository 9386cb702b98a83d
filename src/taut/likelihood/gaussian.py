"""Gaussian likelihood with a network."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Normal

from taut.holes import Cells, column_mean
from taut.likelihood.base import Likelihood
from taut.networks import column_scale


class Gaussian(Likelihood):
    r"""$p(x \mid z) = N(x; \mu + s \odot f(z),\ s^2 \odot v(z))$ with a diagonal covariance.

    $\mu$ and s are the mean and standard deviation of the training rows, so the network works in units of the data;
    the density is that of x itself, in nats. $v = v_{\min} + e^{g(z)}$: the floor $v_{\min}$ keeps the likelihood
    bounded.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds a network from ``(latent, shape)``; with its own variance it has the heads f and g.
        shared: Learn one variance for all coordinates and all z instead of a network g.
        min_variance: The floor $v_{\min}$, as a fraction of each coordinate's variance.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        *,
        shared: bool = False,
        min_variance: float = 1e-4,
    ) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.min_variance = min_variance
        self.shared = shared
        self.decoder = decoder(latent, (1 if shared else 2, *self.x_shape))
        self.offset = nn.Parameter(torch.zeros(1 if shared else 2, *self.x_shape))
        if shared:
            self.log_variance = nn.Parameter(torch.zeros(()))
        self.register_buffer("shift", torch.zeros(self.x_shape))
        self.register_buffer("scale", torch.ones(self.x_shape))

    def forward(self, z: Float[Tensor, "*batch d"]) -> Cells:
        heads = (self.decoder(z) + self.offset).unbind(-1 - len(self.x_shape))
        log_variance = self.log_variance if self.shared else heads[1]
        deviation = (self.min_variance + log_variance.clamp(max=15.0).exp()).sqrt()
        normal = Normal(self.shift + self.scale * heads[0], self.scale * deviation, validate_args=False)
        return Cells(normal, len(self.x_shape), validate_args=False)

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        self.shift.copy_(column_mean(x))
        self.scale.copy_(column_scale(x))
