"""A mask that hides the upper half."""

from jaxtyping import Bool
from torch import Tensor

from taut.mask.base import Region


class TopHalf(Region):
    """Hides the upper half of every image."""

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        hidden[: len(hidden) // 2] = True
