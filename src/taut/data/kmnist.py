"""Kuzushiji-MNIST."""

from typing import Any, ClassVar, final

from taut.data.base import Data, Splits
from taut.data.binarise import Scale
from taut.data.readers.idx import idx_file, idx_splits

_MIRRORS = ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/")
_TRAIN, _TEST = (
    idx_file("kmnist", f"{part}-images-idx3-ubyte.gz", count, None, _MIRRORS, md5)
    for part, count, md5 in (
        ("train", 60000, "bdb82020997e1d708af4cf47b453dcf7"),
        ("t10k", 10000, "5c965bf0a639b31b8f53240b1b52f4d7"),
    )
)


@final
class KMNIST(Data):
    """Cursive Japanese characters, 28x28 bytes (Clanuwat et al. 2018): 60000 - v / v / 10000.

    Args:
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "kmnist"
    scale = Scale(levels=255)

    def __init__(self, *, validation: int = 10000, **options: Any) -> None:
        super().__init__(**options)
        self.validation = validation

    def load(self) -> Splits:
        return idx_splits(_TRAIN, _TEST, self.dir, self.validation)
