"""A mask that hides the left half."""

from jaxtyping import Bool
from torch import Tensor

from taut.mask.base import Region


class LeftHalf(Region):
    """Hides the left half of every image."""

    def region(self, hidden: Bool[Tensor, "h w"]) -> None:
        hidden[:, : hidden.shape[1] // 2] = True
