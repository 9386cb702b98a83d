"""Standard normal prior."""

import torch
from torch import Tensor
from torch.distributions import Independent
from torch.distributions import Normal as TorchNormal

from taut.prior.base import Prior


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
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)
        self.register_buffer("ones", torch.ones(dim), persistent=False)

    def forward(self) -> Independent:
        return Independent(TorchNormal(self.zeros, self.ones, validate_args=False), 1)
