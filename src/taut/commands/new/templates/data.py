"""A data set of your own: points about a circle."""

from typing import Any, ClassVar, final

import torch

from taut.data.base import Data, Splits, cut
from taut.errors import UserError


@final
class Mine(Data):
    r"""Rows $(\cos t, \sin t)$ plus noise, t uniform: a ring, which no Gaussian fits.

    A data set has a ``name`` and gives its three splits from ``load``, tensors ``[n, *x_shape]``. They are made of
    ``split_seed`` and never of ``seed``, so that runs with other seeds are scored on the same rows. Pixels come as they
    are stored, with a ``scale`` that decodes them to [0, 1] (``taut.data.binarise.Scale``).

    Args:
        n: Number of rows; a tenth each is for validation and test.
        noise: Standard deviation of the noise.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "mine"
    columns = ("x", "y")

    def __init__(self, *, n: int = 1000, noise: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        if n < 10:
            raise UserError(f"data.n={n} must be 10 or more.")
        self.n, self.noise = n, noise

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(self.split_seed)
        t = 2 * torch.pi * torch.rand(self.n, generator=generator)
        ring = torch.stack([t.cos(), t.sin()], 1)
        rows = ring + self.noise * torch.randn(self.n, 2, generator=generator)
        return cut(rows, val=self.n // 10, test=self.n // 10, seed=self.split_seed)
