"""A likelihood of your own: a Laplace distribution for each cell of x, with a network for its middle."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Laplace

from taut.distributions.cells import Cells
from taut.functional.missing import column_mean, column_scale
from taut.model.building import decoder_of
from taut.model.likelihood.base import Likelihood


class Mine(Likelihood):
    r"""$p(x \mid z) = \prod_i \mathrm{Laplace}(x_i; m_i + s_i f_i(z), s_i)$: less moved by outliers than a Gaussian.

    A likelihood sets ``x_shape`` and gives its distribution from ``forward(z)``, of batch ``(k, b)`` and event
    ``x_shape``. ``Cells`` makes independent cells one event and leaves missing ones (NaN) out of the density.
    ``initialise`` chooses starting values from the training rows. ``binary = True`` would say that x is zeros and ones.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: Builds the network f from ``(latent, x_shape)``.
    """

    def __init__(self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.x_shape = tuple(x_shape)
        self.decoder = decoder_of(decoder, latent, self.x_shape)
        self.middle = nn.Parameter(torch.zeros(self.x_shape))
        self.log_scale = nn.Parameter(torch.zeros(self.x_shape))

    def forward(self, z: Float[Tensor, "*batch d"]) -> Distribution:
        scale = self.log_scale.exp()
        middle = self.middle + scale * self.decoder(z)
        return Cells(Laplace(middle, scale.expand_as(middle), validate_args=False), len(self.x_shape))

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        self.middle.copy_(column_mean(x))
        self.log_scale.copy_(column_scale(x).log())
