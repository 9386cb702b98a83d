"""Image files of the MNIST family: IDX inside gzip."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from taut.data.readers.fetch import Remote, check_digest, check_file_digest, gunzip, obtain

_HEADER = 16  # magic number and three sizes, four bytes each
_SIDE = 28


def idx_file(
    folder: str, name: str, count: int, sha256: str | None, mirrors: tuple[str, ...], md5: str | None = None
) -> Remote[np.ndarray]:
    """An IDX file of ``count`` images of 28x28 bytes.

    Args:
        folder: Folder inside the data folder.
        name: Name of the file.
        count: Number of images.
        sha256: SHA-256 of the unpacked content, or None if it is not known.
        mirrors: Where it is published.
        md5: MD5 of the file as it is packed, or None.
    """
    urls = tuple(mirror + name for mirror in mirrors)
    return Remote(folder, name, urls, partial(_read, count=count, sha256=sha256, md5=md5))


def _read(path: Path, count: int, sha256: str | None, md5: str | None = None) -> np.ndarray:
    if md5 is not None:
        check_file_digest(path, md5)
    content = gunzip(path, _HEADER + count * _SIDE * _SIDE)
    if sha256 is not None:
        check_digest(content, sha256)
    return np.frombuffer(content, np.uint8, offset=_HEADER).reshape(count, 1, _SIDE, _SIDE)


def idx_images(remote: Remote[np.ndarray], folder: str | Path | None) -> UInt8[Tensor, "n 1 28 28"]:
    """The images of a file, fetched into the data folder where it is not there."""
    # a copy, because the array is a read-only view of bytes, which torch would warn about
    return torch.from_numpy(obtain(remote, folder).copy())
