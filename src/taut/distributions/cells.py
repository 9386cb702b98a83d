"""Independent cells, any of which may be missing."""

from collections.abc import Callable, Sequence

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


class MixedColumns(Distribution):
    """Independent columns, each of one of some distributions; any cell may be missing.

    Args:
        parts: Distributions over some of the columns, of equal batches.
        columns: Which columns those are; together all of them.
    """

    def __init__(self, parts: Sequence[Distribution], columns: Sequence[Tensor]) -> None:
        self.parts, self.columns = parts, columns
        self.order = torch.cat(list(columns)).argsort()
        super().__init__(parts[0].batch_shape, torch.Size([len(self.order)]), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self._joined(lambda part: part.mean)

    @property
    def variance(self) -> Tensor:
        return self._joined(lambda part: part.variance)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._joined(lambda part: part.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        each = zip(self.parts, self.columns, strict=True)
        return torch.stack([part.log_prob(value[..., columns]).double() for part, columns in each]).sum(0)

    def given(self, x: Float[Tensor, "b d"]) -> Given:
        """The completions of data with missing cells, for every z."""
        return Given(self, x)

    def _joined(self, of: Callable[[Distribution], Tensor]) -> Tensor:
        # in double, as the columns of a table are
        return torch.cat([of(part).double() for part in self.parts], -1)[..., self.order]
