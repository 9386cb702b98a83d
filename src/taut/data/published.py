"""Images whose authors say which of them are for the test."""

from abc import abstractmethod
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from taut.data.base import Data, Splits
from taut.data.binarise import Scale
from taut.errors import UserError


class PublishedImages(Data):
    """Images of bytes v taken as x = v / 255, with the published test split.

    Args:
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.
    """

    scale = Scale(levels=255)

    def __init__(self, *, validation: int = 10000, **options: Any) -> None:
        super().__init__(**options)
        self.validation = validation

    @abstractmethod
    def images(self) -> tuple[UInt8[Tensor, "n *x"], UInt8[Tensor, "m *x"]]:
        """The published training and test images."""

    def load(self) -> Splits:
        """The published training and test images; validation is the end of the training images.

        Raises:
            UserError: If that leaves no training images.
        """
        train, test = self.images()
        if not 0 < self.validation < len(train):
            raise UserError(
                f"data.validation={self.validation} must leave training images: choose 1 to {len(train) - 1} of "
                f"{len(train)}."
            )
        return Splits(train[: -self.validation], train[-self.validation :], test)
