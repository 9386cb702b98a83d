"""Columns of several families, as one distribution."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from taut.distributions.cells import Given


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
