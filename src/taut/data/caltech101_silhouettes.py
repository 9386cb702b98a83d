"""Caltech 101 Silhouettes."""

from functools import partial
from typing import ClassVar, final

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from taut.data.base import Data, Splits
from taut.data.readers.fetch import Remote, obtain
from taut.data.readers.mat import read_mat

_FILE = Remote(
    folder="caltech101-silhouettes",
    name="caltech101_silhouettes_28_split1.mat",
    urls=(
        "https://people.cs.umass.edu/~marlin/data/caltech101_silhouettes_28_split1.mat",
        "https://raw.githubusercontent.com/YingzhenLi/vae_renyi_divergence/master/data/silhouettes/"
        "caltech101_silhouettes_28_split1.mat",
    ),
    read=partial(
        read_mat,
        shapes={"train_data": (4100, 784), "val_data": (2264, 784), "test_data": (2307, 784)},
        sha256="e1c23b7b158d3dcf9c8f2da3e630567bff95c5e1f96bcd2bf1d783e5f709d464",
    ),
)


@final
class Caltech101Silhouettes(Data):
    """Binary outlines of objects, 28x28 (Marlin, Swersky, Chen and de Freitas 2010), in the published split.

    4100 / 2264 / 2307 rows. The file stores columns first and marks the background by 1. Here images stand
    upright, rows first, and the object is 1: the inverse of the file, as in Tomczak and Welling (2018).
    """

    name: ClassVar[str] = "caltech101_silhouettes"

    def load(self) -> Splits:
        return Splits(*map(_upright, obtain(_FILE, self.dir)))


def _upright(rows: np.ndarray) -> UInt8[Tensor, "n 1 28 28"]:
    images = rows.reshape(-1, 1, 28, 28).swapaxes(2, 3)
    return torch.from_numpy(1 - images)
