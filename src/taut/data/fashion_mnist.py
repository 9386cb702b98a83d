"""Fashion-MNIST."""

from typing import ClassVar, final

from torch import Tensor

from taut.data.published import PublishedImages
from taut.data.readers.idx import idx_file, idx_images

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
class FashionMNIST(PublishedImages):
    """Articles of clothing, 28x28 bytes (Xiao, Rasul and Vollgraf 2017): 60000 - v / v / 10000.

    Args:
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "fashion_mnist"

    def images(self) -> tuple[Tensor, Tensor]:
        return idx_images(_TRAIN, self.dir), idx_images(_TEST, self.dir)
