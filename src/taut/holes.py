r"""Data with holes: a NaN is a cell that was not observed, and nothing behind it can be read.

Masks are boolean, true where a cell is observed. ``hide`` puts them on once, at the door; from there on every density
of an x with holes is that of its observed cells, $p(x_{obs})$, the sum of $p(x)$ over every way to fill the others.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.distributions import Distribution, Independent

from taut.errors import UserError


def observed(x: Float[Tensor, "*x"]) -> Bool[Tensor, "*x"]:
    """The mask of x: true where a cell is observed."""
    return ~x.isnan()


def hide(x: Float[Tensor, "b *x"], mask: Shaped[Tensor, "*m"]) -> Float[Tensor, "b *x"]:
    """X without the cells where the mask is false; what they held, NaN and infinities included, is gone.

    Args:
        x: Data.
        mask: One mask for all data, shape ``[*x]``, or one for each, ``[b, *x]``.

    Raises:
        UserError: If the mask is not boolean, or of another shape.
    """
    if mask.dtype != torch.bool:
        raise UserError(
            f"The mask holds {mask.dtype} values; it must be boolean, true where a cell is observed: compare it first, "
            "as in mask == 1."
        )
    if mask.shape not in (x.shape, x.shape[1:]):
        raise UserError(
            f"The mask has shape {list(mask.shape)} and the data {list(x.shape)}; give one mask of shape "
            f"{list(x.shape[1:])} for all of them, or one for each."
        )
    return x.masked_fill(~mask, torch.nan)


def filled(x: Float[Tensor, "*x"], value: float = 0.0) -> Float[Tensor, "*x"]:
    """X with a number in its holes; infinities stay."""
    return x.nan_to_num(value, torch.inf, -torch.inf)


def column_mean(x: Float[Tensor, "n *x"]) -> Float[Tensor, "*x"]:
    """Mean of the observed cells of every coordinate."""
    return x.nanmean(0) if x.isnan().any() else x.mean(0)


def mean_filled(x: Float[Tensor, "n *x"]) -> Float[Tensor, "n *x"]:
    """X with each hole at the mean of its coordinate."""
    return torch.where(x.isnan(), column_mean(x), x)


CELLS = 1 << 20
"""Cells of all the matrices, one a mask, that are held at once."""


class Pattern(NamedTuple):
    """Masks of equal size, each of them shared by equally many data: what one batch of matrices can do.

    Args:
        rows: Which data, by mask.
        seen: Observed cells of each mask.
        hidden: Holes of each mask.
    """

    rows: Int[Tensor, "p n"]
    seen: Int[Tensor, "p o"]
    hidden: Int[Tensor, "p h"]


def patterns(x: Float[Tensor, "b d"]) -> Iterator[Pattern]:
    """The data of a batch, those of one mask together, and masks alike side by side."""
    masks, which, counts = observed(x).unique(dim=0, return_inverse=True, return_counts=True)
    order, starts = which.argsort(stable=True), counts.cumsum(0) - counts
    kinds, kind = torch.stack([counts, masks.sum(1)], 1).unique(dim=0, return_inverse=True)
    for i, (count, size) in enumerate(kinds.tolist()):
        for alike in (kind == i).nonzero().squeeze(1).split(max(1, CELLS // x.shape[1] ** 2)):
            rows = order[starts[alike].unsqueeze(1) + torch.arange(count, device=x.device)]
            seen, hidden = (mask.nonzero()[:, 1] for mask in (masks[alike], ~masks[alike]))
            yield Pattern(rows, seen.view(len(alike), size), hidden.view(len(alike), x.shape[1] - size))


class Given:
    r"""$p(x \mid z, x_{obs})$ of independent cells: the observed ones as they are, the others from $p(x \mid z)$.

    Args:
        distribution: $p(x \mid z)$, batch ``(k, b)``.
        x: Data with holes, ``[b, *x]``.
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
        holes = value.isnan()
        if value.device.type == "cpu" and not holes.any():  # a GPU would have to be waited for
            return super().log_prob(value)
        inside = torch.where(holes, self.base_dist.mean.detach(), value)  # a number first: NaN would reach gradients
        cells = self.base_dist.log_prob(inside).masked_fill(holes, 0.0)
        return cells.flatten(-len(self.event_shape)).sum(-1)

    def given(self, x: Float[Tensor, "b *x"]) -> Given:
        """The completions of data with holes, for every z."""
        return Given(self, x)
