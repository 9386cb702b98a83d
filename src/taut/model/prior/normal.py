"""Standard normal prior."""

import torch
from torch import Tensor

from taut.distributions.gaussian import Gaussian
from taut.model.prior.base import Prior


class Normal(Prior):
    r"""$p(z) = N(0, I_d)$ (Kingma & Welling, 2014).

    Args:
        dim: Number of latent coordinates d.

    >>> Normal(3)().event_shape
    torch.Size([3])
    """

    zeros: Tensor
    ones: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.z_shape = (dim,)
        # buffers follow the module to its device, and constants need no place in a checkpoint
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)
        self.register_buffer("ones", torch.ones(dim), persistent=False)

    def forward(self) -> Gaussian:
        return Gaussian.of(self.zeros, self.ones)
