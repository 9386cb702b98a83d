"""A prior of your own: a Laplace distribution for each coordinate of z."""

import torch
from torch import nn
from torch.distributions import Distribution, Independent, Laplace

from taut.model.prior.base import Prior


class Mine(Prior):
    r"""$p(z) = \prod_i \mathrm{Laplace}(z_i; 0, s_i)$ with learned scales s.

    A prior sets ``z_shape`` and gives its distribution from ``forward``, of batch ``()`` and event ``z_shape``: here
    ``Independent(..., 1)`` makes the coordinates one event. What is learned is an ``nn.Parameter``; other tensors
    belong into ``register_buffer``, so that they follow the model to its device. The density is computed in float64,
    whatever these are in.

    Args:
        dim: Number of latent coordinates.
        scale: The scales that training starts from.
    """

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.z_shape = (dim,)
        self.log_scale = nn.Parameter(torch.full((dim,), scale).log())

    def forward(self) -> Distribution:
        return Independent(Laplace(torch.zeros_like(self.log_scale), self.log_scale.exp(), validate_args=False), 1)
