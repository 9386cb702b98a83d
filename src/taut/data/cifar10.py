"""CIFAR-10, from the binary archive of its authors, which holds no code."""

import tarfile
import zlib
from functools import partial
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from taut.data.published import PublishedImages
from taut.data.readers.fetch import DamagedError, Remote, check_file_digest, obtain

_PARTS = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_PIXELS = 3 * 32 * 32


def _read(path: Path, rows: int, md5: str) -> np.ndarray:
    """The images of the six files of the archive, the test images last: ``[6 * rows, 3, 32, 32]``."""
    check_file_digest(path, md5)
    images = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for part in _PARTS:
                file = archive.extractfile(f"cifar-10-batches-bin/{part}.bin")
                content = b"" if file is None else file.read(rows * (_PIXELS + 1) + 1)
                if len(content) != rows * (_PIXELS + 1):
                    raise DamagedError(f"{part}.bin has not {rows} images")
                # the first byte of each is its label
                images.append(np.frombuffer(content, np.uint8).reshape(rows, _PIXELS + 1)[:, 1:])
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise DamagedError(f"not the archive of CIFAR-10: {error}") from error
    return np.concatenate(images).reshape(-1, 3, 32, 32)


_ARCHIVE = Remote(
    folder="cifar10",
    name="cifar-10-binary.tar.gz",
    urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    read=partial(_read, rows=10000, md5="c32a1d4ab5d03f1284b67883e8d87530"),
)


@final
class CIFAR10(PublishedImages):
    """Photographs in ten classes, 3x32x32 bytes v taken as x = v / 255 (Krizhevsky 2009): 50000 - v / v / 10000.

    Args:
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "cifar10"

    def images(self) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(obtain(_ARCHIVE, self.dir))
        test = len(images) // len(_PARTS)
        return images[:-test], images[-test:].clone()
