"""Masks of a whole table, as published experiments on imputation hide cells."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from taut.data.mask.base import TableMask


class ExactRate(TableMask):
    """Hides an exact share of all cells, drawn without replacement (missing completely at random).

    The cells are those of ``numpy.random.seed(seed)`` and ``numpy.random.choice``, by which the notebook of Mattei &
    Frellsen (2019) hides half of a table under seed 1234.

    Args:
        rate: Share of the cells, rounded down to whole ones.
        seed: Of numpy's older generator.
    """

    def __init__(self, rate: float = 0.5, seed: int = 1234) -> None:
        self.rate, self.seed = rate, seed

    def observed(self, x: Float[Tensor, "n *x"]) -> Bool[Tensor, "n *x"]:
        # numpy's older generator, as in the notebook: it decides which cells
        chosen = np.random.RandomState(self.seed).choice(x.numel(), int(x.numel() * self.rate), replace=False)
        seen = torch.ones(x.numel(), dtype=torch.bool)
        seen[torch.from_numpy(chosen)] = False
        return seen.view(x.shape)


class AboveMean(TableMask):
    """Hides what is above the mean of its column, in the first half of the columns: missing for what it holds.

    The self-masking of Ipsen, Mattei & Frellsen (2021).
    """

    def observed(self, x: Float[Tensor, "n *x"]) -> Bool[Tensor, "n *x"]:
        rows = x.flatten(1)
        masked = torch.arange(rows.shape[1], device=x.device) < rows.shape[1] // 2
        return ~((rows > rows.nanmean(0)) & masked).view(x.shape)
