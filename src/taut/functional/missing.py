r"""Data with missing cells: a NaN is a cell that was not observed, and nothing behind it can be read.

Masks are boolean, true where a cell is observed. ``apply_mask`` puts them on once, at the door; from there on every
density of an x with missing cells is that of its observed cells, $p(x_{obs})$, the sum of $p(x)$ over every way to
fill the others.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from taut.errors import UserError


def observed(x: Float[Tensor, "*x"]) -> Bool[Tensor, "*x"]:
    """The mask of x: true where a cell is observed."""
    return ~x.isnan()


def apply_mask(x: Float[Tensor, "b *x"], mask: Shaped[Tensor, "*m"]) -> Float[Tensor, "b *x"]:
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
    """X with a number in its missing cells; infinities stay."""
    # by default nan_to_num makes finite numbers of infinities, too
    return x.nan_to_num(value, torch.inf, -torch.inf)


def column_mean(x: Float[Tensor, "n *x"]) -> Float[Tensor, "*x"]:
    """Mean of the observed cells of every coordinate."""
    # nanmean takes several passes over the data
    return x.nanmean(0) if x.isnan().any() else x.mean(0)


def mean_filled(x: Float[Tensor, "n *x"]) -> Float[Tensor, "n *x"]:
    """X with each missing cell at the mean of its coordinate."""
    return torch.where(x.isnan(), column_mean(x), x)


CELLS = 1 << 20
"""Cells of all the matrices, one a mask, that are held at once."""


class Pattern(NamedTuple):
    """Masks of equal size, each of them shared by equally many data: what one batch of matrices can do.

    Args:
        rows: Which data, by mask.
        observed: Observed cells of each mask.
        missing: Missing cells of each mask.
    """

    rows: Int[Tensor, "p n"]
    observed: Int[Tensor, "p o"]
    missing: Int[Tensor, "p h"]


def patterns(x: Float[Tensor, "b d"]) -> Iterator[Pattern]:
    """The data of a batch, those of one mask together, and masks alike side by side."""
    masks, which, counts = observed(x).unique(dim=0, return_inverse=True, return_counts=True)
    # stable: the rows of a mask keep their order, so that sums over them round alike
    order, starts = which.argsort(stable=True), counts.cumsum(0) - counts
    kinds, kind = torch.stack([counts, masks.sum(1)], 1).unique(dim=0, return_inverse=True)
    for i, (count, size) in enumerate(kinds.tolist()):
        for alike in (kind == i).nonzero().squeeze(1).split(max(1, CELLS // x.shape[1] ** 2)):
            rows = order[starts[alike].unsqueeze(1) + torch.arange(count, device=x.device)]
            present, missing = (mask.nonzero()[:, 1] for mask in (masks[alike], ~masks[alike]))
            yield Pattern(rows, present.view(len(alike), size), missing.view(len(alike), x.shape[1] - size))


def column_scale(x: Float[Tensor, "n *x"]) -> Float[Tensor, "*x"]:
    """Standard deviation of the observed cells of every coordinate; 1 where a coordinate is constant."""
    # std has no form that leaves NaN out
    scale = (x - x.nanmean(0)).square().nanmean(0).sqrt() if x.isnan().any() else x.std(0, correction=0)
    return torch.where(is_constant(x), 1.0, scale)


def is_constant(x: Float[Tensor, "n *x"]) -> Bool[Tensor, "*x"]:
    """Coordinates with one value in all rows, of which the rounding of a mean makes a spread."""
    return x.nan_to_num(torch.inf).amin(0) >= x.nan_to_num(-torch.inf).amax(0)
