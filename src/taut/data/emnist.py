"""Extended MNIST: digits and letters, from the archive of its authors."""

import gzip
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from taut.data.published import PublishedImages
from taut.data.readers.fetch import DamagedError, Remote, check_file_digest, obtain
from taut.errors import UserError

SIZES = {
    "balanced": (112800, 18800),
    "byclass": (697932, 116323),
    "bymerge": (697932, 116323),
    "digits": (240000, 40000),
    "letters": (124800, 20800),
    "mnist": (60000, 10000),
}
"""Published training and test images of each variant."""
_HEADER, _SIDE = 16, 28


def _read(path: Path, variant: str, sizes: tuple[int, int], md5: str) -> tuple[np.ndarray, np.ndarray]:
    """Training and test images of one variant, upright: ``[n, 1, 28, 28]``."""
    check_file_digest(path, md5)
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [
                _images(archive, f"gzip/emnist-{variant}-{part}-images-idx3-ubyte.gz", count)
                for part, count in zip(("train", "test"), sizes, strict=True)
            ]
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error, OSError) as error:
        raise DamagedError(f"not the archive of EMNIST: {error}") from error
    return parts[0], parts[1]


def _images(archive: zipfile.ZipFile, name: str, count: int) -> np.ndarray:
    size = _HEADER + count * _SIDE * _SIDE
    with archive.open(name) as packed, gzip.open(packed) as file:
        # one byte more than is expected, so that an archive that promises more is not unpacked
        content = file.read(size + 1)
    if len(content) != size:
        raise DamagedError(f"{name} has not {count} images")
    # columns of pixels come first in the files
    images = np.frombuffer(content, np.uint8, offset=_HEADER).reshape(count, 1, _SIDE, _SIDE)
    return np.ascontiguousarray(images.swapaxes(2, 3))


def _archive(variant: str) -> Remote[tuple[np.ndarray, np.ndarray]]:
    return Remote(
        folder="emnist",
        name="gzip.zip",
        urls=(
            "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
            "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
        ),
        read=partial(_read, variant=variant, sizes=SIZES[variant], md5="58c8d27c78d21e728a6bc7b3cc06412e"),
        limit=1 << 30,  # all variants are in one archive of 562 MB
    )


_ARCHIVES = tuple(_archive(variant) for variant in SIZES)


@final
class EMNIST(PublishedImages):
    """Handwritten digits and letters, 28x28 bytes, in the manner of MNIST (Cohen et al. 2017).

    Args:
        variant: ``balanced`` (112800 - v / v / 18800), ``letters`` (124800 - v / v / 20800), ``digits`` (240000 - v /
            v / 40000), ``mnist`` (60000 - v / v / 10000), ``byclass`` or ``bymerge`` (697932 - v / v / 116323).
        validation: Rows v cut from the end of the training images.
        options: Arguments of ``Data``.

    Raises:
        UserError: If the variant is unknown.
    """

    name: ClassVar[str] = "emnist"

    def __init__(
        self,
        *,
        variant: Literal["balanced", "byclass", "bymerge", "digits", "letters", "mnist"] = "balanced",
        **options: Any,
    ) -> None:
        if variant not in SIZES:
            raise UserError(f"data.variant={variant} is unknown: choose one of {', '.join(SIZES)}.")
        super().__init__(**options)
        self.variant = variant

    def images(self) -> tuple[Tensor, Tensor]:
        train, test = obtain(_ARCHIVES[list(SIZES).index(self.variant)], self.dir)
        return torch.from_numpy(train), torch.from_numpy(test)
