"""MNIST."""

from typing import ClassVar, final

from torch import Tensor

from taut.data.published import PublishedImages
from taut.data.readers.idx import idx_file, idx_images

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TRAIN = idx_file(
    "mnist",
    "train-images-idx3-ubyte.gz",
    60000,
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    _MIRRORS,
)
_TEST = idx_file(
    "mnist",
    "t10k-images-idx3-ubyte.gz",
    10000,
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    _MIRRORS,
)


@final
class MNIST(PublishedImages):
    """Handwritten digits of 28x28 bytes (LeCun, Cortes and Burges 1998): 60000 - v / v / 10000.

    Args:
        validation: Rows v cut from the end of the training images: 10000 is common, Burda et al. (2016) use
            400.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "mnist"

    def images(self) -> tuple[Tensor, Tensor]:
        return idx_images(_TRAIN, self.dir), idx_images(_TEST, self.dir)
