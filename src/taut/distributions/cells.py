"""Independent cells, any of which may be missing."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from taut.functional.missing import observed


class Given:
    r"""$p(x \mid z, x_{obs})$ of independent cells: the observed ones as they are, the others from $p(x \mid z)$.

    Args:
        distribution: $p(x \mid z)$, batch ``(k, b)``.
        x: Data with missing cells, ``[b, *x]``.
    """

    def __init__(self, distribution: Distribution, x: Float[Tensor, "b *x"]) -> None:
        self.distribution, self.x = distribution, x

    @property
    def mean(self) -> Float[Tensor, "k b *x"]:
        """Mean of every cell."""
        return torch.where(observed(self.x), self.x, self.distribution.mean)

    @property
    def stddev(self) -> Float[Tensor, "k b *x"]:
        """Standard deviation of every cell, 0 where it is observed."""
        return self.distribution.stddev.masked_fill(observed(self.x), 0.0)

    def sample(self) -> Float[Tensor, "k b *x"]:
        """One completion for every z."""
        return torch.where(observed(self.x), self.x, self.distribution.sample())


class Cells(Independent):
    """Independent cells, any of which may be missing: the density of x is that of its observed cells."""

    def log_prob(self, value: Tensor) -> Tensor:
        missing = value.isnan()
        if value.device.type == "cpu" and not missing.any():  # a GPU would have to be waited for
            return super().log_prob(value)
        inside = torch.where(missing, self.base_dist.mean.detach(), value)  # a number first: NaN would reach gradients
        cells = self.base_dist.log_prob(inside).masked_fill(missing, 0.0)
        return cells.flatten(-len(self.event_shape)).sum(-1)

    def given(self, x: Float[Tensor, "b *x"]) -> Given:
        """The completions of data with missing cells, for every z."""
        return Given(self, x)
