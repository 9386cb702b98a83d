"""Laplace prior."""

import torch
from torch import Tensor
from torch.distributions import Independent
from torch.distributions import Laplace as LaplaceDistribution

from taut.model.prior.base import Prior


class Laplace(Prior):
    r"""$p(z) = \prod_i \frac1{2s} e^{-|z_i| / s}$: coordinates are near 0 or far from it. Nothing is learned.

    Args:
        dim: Number of latent coordinates d.
        scale: Scale s; the variance of a coordinate is $2 s^2$.

    >>> Laplace(3)().event_shape
    torch.Size([3])
    """

    zeros: Tensor
    scales: Tensor

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.z_shape = (dim,)
        # buffers follow the module to its device, and what the configuration says needs no place in a checkpoint
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)
        self.register_buffer("scales", torch.full((dim,), scale), persistent=False)

    def forward(self) -> Independent:
        return Independent(LaplaceDistribution(self.zeros, self.scales, validate_args=False), 1, validate_args=False)
