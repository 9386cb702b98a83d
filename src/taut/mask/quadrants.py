"""A mask that hides quadrants."""

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from taut.errors import UserError
from taut.mask.base import Region

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
            raise UserError(f"mask.quarters={list(quarters)} cannot be; name one or more of {', '.join(QUADRANTS)}.")
        self.quarters = tuple(quarters)

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        height, width = hidden.shape
        for name in self.quarters:
            upper, left = name.startswith("upper"), name.endswith("left")
            rows = slice(0, height // 2) if upper else slice(height // 2, None)
            columns = slice(0, width // 2) if left else slice(width // 2, None)
            hidden[rows, columns] = True
