"""Base class of the likelihoods of cells that take one of some levels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from taut.distributions.levels import Levels
from taut.errors import UserError
from taut.model.likelihood.per_cell import PerCell, refuse_outside


class OfLevels(PerCell):
    """A probability mass on levels: grey levels of pixels, or categories 0, 1, ..., L - 1 of columns.

    Args:
        x_shape: Shape of one datum.
        latent: Number of latent coordinates.
        decoder: As for :class:`~taut.model.likelihood.per_cell.PerCell`.
        levels: Number of levels L, of cells that hold 0, 1, ..., L - 1; one for each column; or ``count``, ``divisor``
            and ``offset`` of levels that stand for other numbers, as the grey levels of images do.
        heads: Numbers of each cell, from the number of levels.
        word: Its word on the command line.

    Raises:
        UserError: If the levels are not said, or cannot be.
    """

    highest: Tensor

    def __init__(
        self,
        x_shape: Sequence[int],
        latent: int,
        decoder: Callable[..., nn.Module],
        levels: int | Sequence[int] | Mapping[str, Any] | None,
        heads: Callable[[int], int],
        word: str,
    ) -> None:
        counts = _counts(levels, tuple(x_shape), word)
        self.levels = Levels(**levels) if isinstance(levels, Mapping) else Levels(max(counts))
        super().__init__(x_shape, latent, decoder, heads(self.levels.count))
        self.word = word
        highest = torch.tensor(counts).reshape(-1, *[1] * (len(self.x_shape) - 1)) - 1
        self.register_buffer("highest", highest.expand(self.x_shape).clone())

    @property
    def is_mass(self) -> bool:
        return True

    @property
    def values(self) -> Float[Tensor, " l"]:
        return self.levels.decode(torch.arange(self.levels.count, dtype=torch.float64))

    def check(self, x: Float[Tensor, "n *x"]) -> None:
        super().check(x)
        v = self.levels.encode(x)
        # the numbers of pixels are divisions of levels, rounded in single precision
        on_level = (x * self.levels.divisor - self.levels.offset - v).abs() <= 1e-3
        first, last = self.levels.decode(torch.tensor([0, int(self.highest.max())])).tolist()
        step = "" if self.levels.divisor == 1 else f" in steps of 1/{self.levels.divisor:g}"
        few = self.highest.min() < self.highest.max()
        refuse_outside(
            x,
            on_level & (v >= 0) & (v <= self.highest),
            f"likelihood={self.word} needs levels from {first:g} to {last:g}{step}{', fewer in some columns' * few}",
            "set likelihood.levels to the number of levels (one for each column where they differ), or choose "
            "likelihood=gaussian for real numbers, poisson for counts",
        )


def _counts(levels: Any, x_shape: tuple[int, ...], word: str) -> list[int]:
    """The number of levels, of each column where they differ."""
    if levels is None:
        raise UserError(
            f"likelihood={word} needs the number of levels, which only images tell: for cells that hold 0, 1, ..., "
            "L - 1 set likelihood.levels=<L>, or [<L1>,<L2>,...] for columns that differ in it."
        )
    counts = [levels["count"]] if isinstance(levels, Mapping) else [levels] if isinstance(levels, int) else list(levels)
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 2 for count in counts):
        raise UserError(f"likelihood.levels must be a number of levels >= 2, or a list of such, got {levels}.")
    if len(counts) not in (1, x_shape[0]):
        raise UserError(
            f"likelihood.levels={list(counts)} names {len(counts)} columns, and the data have {x_shape[0]}; give a "
            "number for each, or one for all."
        )
    return [int(count) for count in counts]
