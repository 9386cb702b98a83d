"""A prior with heavy tails."""

import torch
from torch import Tensor
from torch.distributions import Independent, StudentT

from taut.model.prior.base import Prior


class Student(Prior):
    r"""$p(z) = \prod_i t_\nu(z_i)$, for data of which some lie far out.

    Args:
        dim: Number of latent coordinates.
        df: Degrees of freedom $\nu$; the variance is finite above 2.
    """

    zeros: Tensor

    def __init__(self, dim: int, df: float = 5.0) -> None:
        super().__init__()
        self.z_shape = (dim,)
        self.df = df
        # a buffer follows the module to its device
        self.register_buffer("zeros", torch.zeros(dim), persistent=False)

    def forward(self) -> Independent:
        return Independent(StudentT(self.df, self.zeros, validate_args=False), 1, validate_args=False)
