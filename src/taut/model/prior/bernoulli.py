"""Prior of independent bits."""

import torch
from torch import nn
from torch.distributions import constraints

from taut.distributions.bits import Bits
from taut.model.prior.base import Prior


class Bernoulli(Prior):
    r"""$p(z) = \prod_j \mathrm{Bernoulli}(z_j; \sigma(a_j))$, z in {0, 1}^d, with learned log-odds a.

    The latents of a sigmoid belief network (Neal, 1992; Mnih & Gregor, 2014). Up to 10 of them are summed over where
    log p(x) is evaluated.

    Args:
        dim: Number of bits d.

    >>> Bernoulli(3)().mean.tolist()
    [0.5, 0.5, 0.5]
    """

    support = constraints.independent(constraints.boolean, 1)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.z_shape = (dim,)
        self.logits = nn.Parameter(torch.zeros(dim))

    def forward(self) -> Bits:
        return Bits.of(self.logits)
