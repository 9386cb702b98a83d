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
        hidden: Which: any of upper_left, upper_right, lower_left and lower_right.

    Raises:
        UserError: If there is no such quadrant.
    """

    def __init__(self, hidden: Sequence[str] = ("upper_left", "upper_right", "lower_right")) -> None:
        if not hidden or not set(hidden) <= set(QUADRANTS):
            raise UserError(f"mask.hidden={list(hidden)} cannot be; name one or more of {', '.join(QUADRANTS)}.")
        self.hidden = tuple(hidden)

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        height, width = hidden.shape
        for name in self.hidden:
            upper, left = name.startswith("upper"), name.endswith("left")
            rows = slice(0, height // 2) if upper else slice(height // 2, None)
            columns = slice(0, width // 2) if left else slice(width // 2, None)
            hidden[rows, columns] = True
