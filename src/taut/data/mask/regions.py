"""Masks of regions of an image: a square, halves, quadrants."""

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from taut.data.mask.base import Region
from taut.errors import UserError


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


class TopHalf(Region):
    """Hides the upper half of every image."""

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        hidden[: len(hidden) // 2] = True


class BottomHalf(Region):
    """Hides the lower half of every image."""

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        hidden[(len(hidden) + 1) // 2 :] = True


class LeftHalf(Region):
    """Hides the left half of every image."""

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        hidden[:, : hidden.shape[1] // 2] = True


QUADRANTS = ("upper_left", "upper_right", "lower_left", "lower_right")


class Quadrants(Region):
    """Hides some quarters of every image; all but the lower left one is the hard case of Sohn, Lee & Yan (2015).

    Args:
        quarters: Which: any of upper_left, upper_right, lower_left and lower_right.

    Raises:
        UserError: If there is no such quadrant.
    """

    def __init__(self, quarters: Sequence[str] = ("upper_left", "upper_right", "lower_right")) -> None:
        if not quarters or not set(quarters) <= set(QUADRANTS):
            raise UserError(f"mask.quarters must be one or more of {', '.join(QUADRANTS)}, got {list(quarters)}.")
        self.quarters = tuple(quarters)

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        height, width = hidden.shape
        for name in self.quarters:
            upper, left = name.startswith("upper"), name.endswith("left")
            rows = slice(0, height // 2) if upper else slice(height // 2, None)
            columns = slice(0, width // 2) if left else slice(width // 2, None)
            hidden[rows, columns] = True
