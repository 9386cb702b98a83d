"""Handwritten digits of 8x8 pixels that come with scikit-learn: no file, no network."""

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch

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
        images = torch.from_numpy(pixels()).to(torch.uint8).reshape(-1, 1, 8, 8)
        return cut(images, val=359, test=360, seed=self.split_seed)


def pixels() -> np.ndarray:
    """The pixels, a digit in each row.

    From scikit-learn's file where it lies as in version 1.9, for to import its loader takes longer than all else that a
    training on these digits does before its first step.
    """
    package = find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",")[:, :-1]  # the last is the digit that is meant
    from sklearn.datasets import load_digits

    return np.asarray(load_digits(return_X_y=True)[0])
