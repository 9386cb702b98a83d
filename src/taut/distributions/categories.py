"""Independent categories."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, OneHotCategorical, constraints
from torch.nn.functional import one_hot

from taut.distributions.bits import SUMMED, Bits


class Categories(Distribution):
    """D independent categories of C values each, one-hot, side by side: z in {0, 1}^(D C).

    Few enough of them list all their values: where C^D is at most 1,024.

    Args:
        base_dist: The D categories, batch ``[*batch, D]``.

    >>> Categories.of(torch.zeros(2, 2)).enumerate_support().int().tolist()
    [[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1]]
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (a property in torch's stub)
    support = constraints.independent(constraints.boolean, 1)  # type: ignore[assignment]

    def __init__(self, base_dist: Categorical) -> None:
        self.base_dist = base_dist
        *batch, d = base_dist.batch_shape
        # torch would look at every value to validate it, and a GPU would have to be waited for
        super().__init__(torch.Size(batch), torch.Size([d * base_dist.logits.shape[-1]]), validate_args=False)

    @classmethod
    def of(cls, logits: Tensor) -> "Categories":
        """The categories with these log-odds, ``[*batch, D, C]``."""
        return cls(Categorical(logits=logits, validate_args=False))

    @property
    def size(self) -> tuple[int, int]:
        """D and C."""
        *_, d, c = self.base_dist.logits.shape
        return d, c

    @property
    def mean(self) -> Tensor:
        return self.base_dist.probs.flatten(-2)

    @property
    def variance(self) -> Tensor:
        return self.mean * (1 - self.mean)

    def expand(self, batch_shape: Any, _instance: Distribution | None = None) -> "Categories":
        del _instance
        return Categories(self.base_dist.expand(torch.Size([*batch_shape, self.size[0]])))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        chosen = self.base_dist.sample(torch.Size(sample_shape))
        return one_hot(chosen, self.size[1]).to(self.base_dist.logits).flatten(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.base_dist.logits.flatten(-2)).sum(-1)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy().sum(-1)

    @property
    def has_enumerate_support(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] (by their number)
        d, c = self.size
        return c**d <= 2**SUMMED

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, ``[C^D, *batch, D C]``.

        Raises:
            NotImplementedError: If there are too many.
        """
        d, c = self.size
        if not self.has_enumerate_support:
            raise NotImplementedError(f"{c}^{d} values")
        each = torch.eye(c, dtype=self.base_dist.logits.dtype, device=self.base_dist.logits.device)
        values = each[torch.cartesian_prod(*[torch.arange(c)] * d).view(-1, d)].flatten(1)
        values = values.view(-1, *[1] * len(self.batch_shape), d * c)
        return values.expand(-1, *self.batch_shape, d * c) if expand else values


DISCRETE = (Bits, Categories, OneHotCategorical)
"""Distributions of a z that takes finitely many values."""


def uniform_over(prior: Distribution, log_odds: Tensor) -> Distribution:
    """Every value of a discrete z alike.

    Args:
        prior: Any of :data:`DISCRETE`, whose values they are.
        log_odds: Zeros, ``[*batch, *z_shape]``.
    """
    if isinstance(prior, Categories):
        return Categories.of(log_odds.unflatten(-1, prior.size))
    return Bits.of(log_odds) if isinstance(prior, Bits) else OneHotCategorical(logits=log_odds, validate_args=False)
