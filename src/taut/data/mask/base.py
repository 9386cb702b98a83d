"""Base classes of masks."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from taut.errors import UserError


def word_of(mask: "Mask") -> str:
    """The word on the command line."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(mask).__name__).lower()


class Mask(ABC):
    """A choice of observed cells, named after the cells it hides. A new one implements ``draw``.

    Attributes:
        fresh: Whether training data are hidden anew in every epoch.
    """

    fresh: bool = False

    @abstractmethod
    def draw(self, rows: int, x_shape: Sequence[int], *, seed: int, stream: str) -> Bool[Tensor, "n *x"]:
        """The masks of so many data, true where a cell is observed.

        Args:
            rows: Number of data.
            x_shape: Shape of one.
            seed: Seed of masks that are drawn.
            stream: What they are for; two streams are independent.

        Raises:
            UserError: If the mask does not fit data of this shape.
        """


class TableMask(Mask):
    """A mask that looks at all rows of a split together, at their numbers or their count.

    A new one implements ``observed``.
    """

    @abstractmethod
    def observed(self, x: Float[Tensor, "n *x"]) -> Bool[Tensor, "n *x"]:
        """The masks of all rows of a table, true where a cell is observed."""

    def draw(self, rows: int, x_shape: Sequence[int], *, seed: int, stream: str) -> Bool[Tensor, "n *x"]:
        raise UserError(
            f"mask={word_of(self)} looks at the numbers of all rows, which are not at hand here; choose mask=random."
        )


class Region(Mask):
    """A mask that hides the same part of every image. A new one implements ``region``."""

    def draw(self, rows: int, x_shape: Sequence[int], *, seed: int, stream: str) -> Bool[Tensor, "n *x"]:
        del seed, stream
        if len(x_shape) != 3:
            raise UserError(
                f"mask={word_of(self)} hides a part of an image [c, h, w], but x has shape {list(x_shape)}; choose "
                "mask=random, or from_data for the empty cells of a table."
            )
        height, width = x_shape[1:]
        hidden = torch.zeros(height, width, dtype=torch.bool)
        self.region(hidden)
        # expanded: one mask in memory for all rows
        return (~hidden).expand(rows, *x_shape)

    @abstractmethod
    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        """Set what is hidden."""
