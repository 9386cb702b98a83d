"""Flow prior."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from taut.distributions.flow import Flow as FlowDistribution
from taut.model.flow import Couplings
from taut.model.prior.base import Prior


class Flow(Prior):
    r"""$p(z)$ is a diagonal Gaussian, bent by coupling layers of splines (Durkan et al., 2019); all of it is learned.

    $z = m + s \odot T^{-1}(n)$ with n standard normal. It starts near a standard normal.

    Args:
        dim: Number of latent coordinates d.
        transforms: Number of coupling layers.
        hidden: Widths of the hidden layers of their networks.

    Raises:
        UserError: If zuko is not installed.
    """

    nothing: Tensor

    def __init__(self, dim: int, transforms: int = 2, hidden: Sequence[int] = (64,)) -> None:
        super().__init__()
        self.z_shape = (dim,)
        self.mean = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))
        self.couplings = Couplings(dim, 1, transforms, hidden)
        # a prior is told nothing; what is the same for all z needs no place in a checkpoint
        self.register_buffer("nothing", torch.ones(1), persistent=False)

    def forward(self) -> FlowDistribution:
        return FlowDistribution.of(self.mean, self.log_scale.exp(), self.nothing, self.couplings)
