"""Kuzushiji-MNIST."""

from typing import ClassVar, final

from torch import Tensor

from taut.data.published import PublishedImages
from taut.data.readers.idx import idx_file, idx_images

_MIRRORS = ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/")
_TRAIN, _TEST = (
    idx_file("kmnist", f"{part}-images-idx3-ubyte.gz", count, None, _MIRRORS, md5)
    for part, count, md5 in (
        ("train", 60000, "bdb82020997e1d708af4cf47b453dcf7"),
        ("t10k", 10000, "5c965bf0a639b31b8f53240b1b52f4d7"),
    )
)


@final
class KMNIST(PublishedImages):
    """Cursive Japanese characters, 28x28 bytes (Clanuwat et al. 2018): 60000 - v / v / 10000.

    Args:
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "kmnist"

    def images(self) -> tuple[Tensor, Tensor]:
        return idx_images(_TRAIN, self.dir), idx_images(_TEST, self.dir)
