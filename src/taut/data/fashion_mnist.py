"""Fashion-MNIST."""

from typing import Any, ClassVar, final

from taut.data.base import Data, Splits
from taut.data.binarise import Scale
from taut.data.readers.idx import idx_file, idx_splits

_MIRRORS = (
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_TRAIN = idx_file(
    "fashion-mnist",
    "train-images-idx3-ubyte.gz",
    60000,
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    _MIRRORS,
)
_TEST = idx_file(
    "fashion-mnist",
    "t10k-images-idx3-ubyte.gz",
    10000,
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    _MIRRORS,
)


@final
class FashionMNIST(Data):
    """Articles of clothing, 28x28 bytes (Xiao, Rasul and Vollgraf 2017): 60000 - v / v / 10000.

    Args:
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "fashion_mnist"
    scale = Scale(levels=255)

    def __init__(self, *, validation: int = 10000, **options: Any) -> None:
        super().__init__(**options)
        self.validation = validation

    def load(self) -> Splits:
        return idx_splits(_TRAIN, _TEST, self.dir, self.validation)
