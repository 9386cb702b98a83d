"""The contract of a mask."""

from collections.abc import Sequence

import torch

from taut.data.mask.base import Mask, TableMask
from taut.testing.rules import require, require_same


def check_mask(mask: Mask, x_shape: Sequence[int]) -> None:
    """Hold a mask against its contract: booleans ``[n, *x_shape]``, true where a cell is observed.

    They are the same for the same seed and stream, and the mask of a datum does not depend on how many there are; that
    of a whole table may.

    Args:
        mask: A mask.
        x_shape: Shape of a datum that it fits.

    Raises:
        ContractError: Naming the rule that is broken.
    """
    require(isinstance(mask, Mask), "a mask is a taut.data.mask.base.Mask", "one", type(mask).__name__)
    if isinstance(mask, TableMask):
        _check_table(mask, x_shape)
        return
    seen, again, few, none = (mask.draw(n, x_shape, seed=1, stream="train") for n in (5, 5, 3, 0))
    require_same(seen.dtype, torch.bool, "the type of a mask")
    require_same(tuple(seen.shape), (5, *x_shape), "the shape of masks of 5 data")
    require_same(tuple(none.shape), (0, *x_shape), "the shape of masks of no data")
    require(torch.equal(seen, again), "a mask repeats itself for the same seed and stream", "equal masks", "others")
    require(torch.equal(seen[:3], few), "the mask of a datum depends on its row alone", "equal masks", "others")


def _check_table(mask: TableMask, x_shape: Sequence[int]) -> None:
    x = torch.randn(5, *x_shape, generator=torch.Generator().manual_seed(0))
    seen, again = mask.observed(x), mask.observed(x.clone())
    require_same(seen.dtype, torch.bool, "the type of a mask")
    require_same(tuple(seen.shape), tuple(x.shape), "the shape of masks of 5 data")
    require(torch.equal(seen, again), "a mask repeats itself for the same table", "equal masks", "others")
