"""Independent bits."""

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Independent

SUMMED = 10
"""Bits up to which all values are listed: 1,024 of them."""


class Bits(Independent):
    """Independent bits over the last axis, z in {0, 1}^d; few enough of them list all their values.

    >>> Bits.of(torch.zeros(2)).enumerate_support().tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """

    @classmethod
    def of(cls, logits: Tensor) -> "Bits":
        """The bits with these log-odds of being 1, ``[*batch, d]``."""
        # torch would look at every value to validate it, and a GPU would have to be waited for
        return cls(Bernoulli(logits=logits, validate_args=False), 1, validate_args=False)

    @property
    def has_enumerate_support(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] (by their number)
        return self.event_shape[0] <= SUMMED

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values, ``[2^d, *batch, d]``.

        Raises:
            NotImplementedError: If there are too many.
        """
        (d,) = self.event_shape
        if not self.has_enumerate_support:
            raise NotImplementedError(f"2^{d} values")
        logits = self.base_dist.logits
        digits = torch.arange(2**d, device=logits.device).unsqueeze(-1) >> torch.arange(d - 1, -1, -1).to(logits.device)
        values = (digits & 1).to(logits.dtype).view(-1, *[1] * len(self.batch_shape), d)
        return values.expand(-1, *self.batch_shape, d) if expand else values
