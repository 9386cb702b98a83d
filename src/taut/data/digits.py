"""Handwritten digits of 8x8 pixels that come with scikit-learn: no file, no network."""

from typing import ClassVar, final

import torch
from sklearn.datasets import load_digits

from taut.data.base import Data, Splits, cut
from taut.data.binarise import Scale


@final
class Digits(Data):
    """The 1797 digits of 8x8 pixels with 17 grey levels (Alpaydin and Kaynak 1998), 0 is paper and 1 is ink.

    Cut by a seeded permutation into 1078 / 359 / 360 rows; there is no published split.
    """

    name: ClassVar[str] = "digits"
    scale = Scale(levels=16)

    def load(self) -> Splits:
        images = torch.from_numpy(load_digits(return_X_y=True)[0]).to(torch.uint8).reshape(-1, 1, 8, 8)
        return cut(images, val=359, test=360, seed=self.split_seed)
