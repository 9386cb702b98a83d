"""Street View House Numbers."""

from functools import partial
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from taut.data.published import PublishedImages
from taut.data.readers.fetch import Remote, check_file_digest, obtain
from taut.data.readers.mat import read_mat


def _read(path: Path, rows: int, md5: str) -> np.ndarray:
    check_file_digest(path, md5)
    (images,) = read_mat(path, {"X": (32, 32, 3, rows)})
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1))


_TRAIN, _TEST = (
    Remote(
        folder="svhn",
        name=f"{part}_32x32.mat",
        urls=(f"http://ufldl.stanford.edu/housenumbers/{part}_32x32.mat",),
        read=partial(_read, rows=rows, md5=md5),
    )
    for part, rows, md5 in (
        ("train", 73257, "e26dedcc434d2e4c54c9b2d4a06d8373"),
        ("test", 26032, "eb5a983be6a315427106f1b164d9cef3"),
    )
)


@final
class SVHN(PublishedImages):
    """Digits of house numbers, 3x32x32 bytes v taken as x = v / 255 (Netzer et al. 2011): 73257 - v / v / 26032.

    Args:
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "svhn"

    def images(self) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(obtain(_TRAIN, self.dir)), torch.from_numpy(obtain(_TEST, self.dir))
