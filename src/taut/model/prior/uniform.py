"""Uniform prior."""

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical, constraints
from torch.distributions import Uniform as TorchUniform

from taut.model.prior.base import Prior


class Uniform(Prior):
    r"""$p(z = c) = 1/C$ over categories, or $p(z) = (h - l)^{-d}$ on the box $[l, h]^d$. Nothing is learned.

    Args:
        dim: Number of latent coordinates d of the box; ignored where ``components`` is given.
        components: Number of categories C, or None for the box.
        low: Lower end l of every side of the box.
        high: Upper end h of every side of the box.

    >>> Uniform(2)().log_prob(torch.zeros(2)).exp()
    tensor(0.0278, dtype=torch.float64)
    """

    low: Tensor
    high: Tensor

    def __init__(self, dim: int, components: int | None = None, low: float = -3.0, high: float = 3.0) -> None:
        super().__init__()
        self.components = components
        self.z_shape = (components or dim,)
        interval = constraints.independent(constraints.interval(low, high), 1)
        self.support = constraints.one_hot if components else interval
        # buffers follow the module to its device, and what the configuration says needs no place in a checkpoint
        self.register_buffer("low", torch.full(self.z_shape, low), persistent=False)
        self.register_buffer("high", torch.full(self.z_shape, high), persistent=False)

    def forward(self) -> Distribution:
        if self.components:
            return OneHotCategorical(logits=torch.zeros_like(self.low), validate_args=False)
        return Independent(TorchUniform(self.low, self.high, validate_args=False), 1)
