"""Prior of independent categories."""

import torch
from torch import nn
from torch.distributions import constraints

from taut.distributions.categories import Categories
from taut.model.prior.base import Prior


class Categoricals(Prior):
    r"""$p(z) = \prod_{j=1}^D \pi_{j z_j}$: D independent categories of C values each, with learned log-odds.

    z is their one-hot vectors side by side, of length D C, as networks take it. Where $C^D \le 1024$, all of its values
    are summed over when log p(x) is evaluated.

    Args:
        dim: Number of categories D.
        categories: Number of values C of each.

    >>> Categoricals(2, 4)().mean.tolist()
    [0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25]
    """

    support = constraints.independent(constraints.one_hot, 1)

    def __init__(self, dim: int, categories: int) -> None:
        super().__init__()
        self.z_shape = (dim * categories,)
        self.logits = nn.Parameter(torch.zeros(dim, categories))

    def forward(self) -> Categories:
        return Categories.of(self.logits)
