"""Tables with holes, and what holds them."""

from typing import NamedTuple

import numpy as np


class Frame(NamedTuple):
    """What this project asks of a data frame: names, and numbers."""

    columns: list[str]
    values: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self.values, dtype=dtype)


def holes(x: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(x.shape) < share, np.nan, x)
