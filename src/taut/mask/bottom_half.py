"""A mask that hides the lower half."""

from jaxtyping import Bool
from torch import Tensor

from taut.mask.base import Region


class BottomHalf(Region):
    """Hides the lower half of every image."""

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        hidden[(len(hidden) + 1) // 2 :] = True
