"""Masks of single cells: at random, those the data came with, the user's own."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from taut.data.mask.base import Mask
from taut.errors import UserError
from taut.functional import seeding

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
            # a whole block, or the mask of a row would depend on how many rows there are
            values = np.random.Generator(np.random.PCG64DXSM(words)).random((BLOCK, *x_shape), dtype=np.float32)
            seen[start : start + BLOCK] = values[: rows - start] >= self.rate
        return torch.from_numpy(seen)


class FromData(Mask):
    """Hides nothing: only the empty cells of a table, or the NaN of an array, are missing."""

    def draw(self, rows: int, x_shape: Sequence[int], *, seed: int, stream: str) -> Bool[Tensor, "n *x"]:
        del seed, stream
        # one byte, whatever the number of cells
        return torch.ones(1, dtype=torch.bool).expand(rows, *x_shape)


class File(Mask):
    """A mask from an NPY file: booleans, true where a cell is observed, the same for every datum.

    Args:
        path: The file, of the shape of one datum; for images also ``[h, w]``.

    Raises:
        UserError: If there is no such file, or it does not hold booleans.
    """

    def __init__(self, path: str | Path | None) -> None:
        if path is None:
            raise UserError("mask=file needs a file: add mask.path=<file.npy>, booleans, true where observed.")
        self.path = Path(path).expanduser()
        try:
            # never unpickled: that would run what the file says
            mask = np.load(self.path, allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"mask.path={path} cannot be read as an NPY file; save a boolean array by numpy."
            ) from error
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            held = mask.dtype if isinstance(mask, np.ndarray) else "several arrays"
            nan = (
                " with NaN" if isinstance(mask, np.ndarray) and mask.dtype.kind == "f" and np.isnan(mask).any() else ""
            )
            raise UserError(
                f"mask.path={path} holds {held}{nan}; a mask is one array of booleans, true where a cell is observed."
            )
        self.mask = torch.from_numpy(np.ascontiguousarray(mask))

    def draw(self, rows: int, x_shape: Sequence[int], *, seed: int, stream: str) -> Bool[Tensor, "n *x"]:
        del seed, stream
        shape = tuple(x_shape)
        if self.mask.shape not in (shape, shape[1:]):
            raise UserError(f"mask.path={self.path} has shape {list(self.mask.shape)}, but one datum {list(shape)}.")
        return self.mask.expand(rows, *shape)
