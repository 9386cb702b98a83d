"""A mask that hides a square."""

from jaxtyping import Bool
from torch import Tensor

from taut.mask.base import Region


class Square(Region):
    """Hides a square (of an image that is none, a rectangle) in the middle.

    Args:
        side: Its side as a share of the image's.
    """

    def __init__(self, side: float = 0.5) -> None:
        self.side = side

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        rows, columns = (max(1, round(self.side * size)) for size in hidden.shape)
        top, left = (hidden.shape[0] - rows) // 2, (hidden.shape[1] - columns) // 2
        hidden[top : top + rows, left : left + columns] = True
