"""A mask that hides cells at random."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from taut.functional import seeding
from taut.mask.base import Mask

BLOCK = 1024
"""Rows drawn at once: part of what defines the mask of a row."""


class Random(Mask):
    """Hides every cell with the same probability, whatever it holds (missing completely at random; Rubin, 1976).

    The mask of a row depends on the seed and on the row alone.

    Args:
        rate: Probability that a cell is hidden.
        fresh: Hide the training data anew in every epoch: for data that are complete, so that q meets every mask.
            False keeps what is hidden hidden.
    """

    def __init__(self, rate: float = 0.5, fresh: bool = False) -> None:
        self.rate, self.fresh = rate, fresh

    def draw(self, rows: int, x_shape: Sequence[int], *, seed: int, stream: str) -> Bool[Tensor, "n *x"]:
        seen = np.empty((rows, *x_shape), dtype=np.bool_)
        for block, start in enumerate(range(0, rows, BLOCK)):
            words = [seeding.key(seed, f"mask/{stream}", block), block]
            values = np.random.Generator(np.random.PCG64DXSM(words)).random((BLOCK, *x_shape), dtype=np.float32)
            seen[start : start + BLOCK] = values[: rows - start] >= self.rate
        return torch.from_numpy(seen)
