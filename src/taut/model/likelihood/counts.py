"""Base class of the likelihoods of counts."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.functional.missing import column_mean
from taut.model.likelihood.per_cell import MOST, PerCell, refuse_outside


class Counts(PerCell):
    r"""A probability mass on 0, 1, 2, ... whose mean is $m_i e^{f(z)_i}$, m the means of the training rows.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: As for :class:`~taut.model.likelihood.per_cell.PerCell`.
        heads: Numbers of each cell, of which f is the first.
        word: Its word on the command line.
    """

    unit: Tensor

    def __init__(
        self, x_shape: Sequence[int], latent: int, decoder: Callable[..., nn.Module], heads: int, word: str
    ) -> None:
        super().__init__(x_shape, latent, decoder, heads)
        self.word = word
        # in float64, and with it the mean and all terms of the density, whose difference is small beside them
        self.register_buffer("unit", torch.ones(self.x_shape, dtype=torch.float64))

    @property
    def is_mass(self) -> bool:
        return True

    def rate(self, f: Float[Tensor, "*cells"]) -> Float[Tensor, "*cells"]:
        """The mean of the cells."""
        return self.unit * f.clamp(-MOST, MOST).exp()

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n *x"]) -> None:
        # a column of zeros alone may hold something elsewhere: half a count more in all rows
        self.unit.copy_(column_mean(x).clamp_min(0.5 / len(x)))

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        refuse_outside(
            x,
            (x >= 0) & (x == x.round()),
            f"likelihood={self.word} needs counts, whole numbers of 0 or more",
            "choose likelihood=gaussian for real numbers, discretised_logistic for grey levels",
        )
