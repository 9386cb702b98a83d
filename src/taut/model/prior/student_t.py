"""Heavy-tailed prior."""

import torch
from torch import Tensor

from taut.distributions.from_noise import StudentT as StudentTDistribution
from taut.errors import UserError
from taut.model.prior.base import Prior


class StudentT(Prior):
    r"""$p(z) = \prod_i t_\nu(z_i)$: z far from 0 costs its logarithm and not its square. Nothing is learned.

    Args:
        dim: Number of latent coordinates d.
        df: Degrees of freedom $\nu$; the variance of a coordinate is $\nu / (\nu - 2)$.

    Raises:
        UserError: If a coordinate has no variance.

    >>> StudentT(3)().event_shape
    torch.Size([3])
    """

    zeros: Tensor
    ones: Tensor
    freedom: Tensor

    def __init__(self, dim: int, df: float = 5.0) -> None:
        if df <= 2:
            raise UserError(f"prior.df must be above 2, where a coordinate has a variance, got {df:g}.")
        super().__init__()
        self.z_shape = (dim,)
        # buffers follow the module to its device, and what the configuration says needs no place in a checkpoint
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)
        self.register_buffer("ones", torch.ones(dim), persistent=False)
        self.register_buffer("freedom", torch.full((dim,), df), persistent=False)

    def forward(self) -> StudentTDistribution:
        return StudentTDistribution.of(self.freedom, self.zeros, self.ones)
