"""MNIST."""

from typing import Any, ClassVar, final

from taut.data.base import Data, Splits
from taut.data.binarise import Scale
from taut.data.readers.idx import idx_file, idx_splits

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
class MNIST(Data):
    """Handwritten digits of 28x28 bytes (LeCun, Cortes and Burges 1998): 60000 - v / v / 10000.

    Args:
        validation: Rows v cut from the end of the training images: 10000 is common, Burda et al. (2016) use
            400.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "mnist"
    scale = Scale(levels=255)

    def __init__(self, *, validation: int = 10000, **options: Any) -> None:
        super().__init__(**options)
        self.validation = validation

    def load(self) -> Splits:
        return idx_splits(_TRAIN, _TEST, self.dir, self.validation)
