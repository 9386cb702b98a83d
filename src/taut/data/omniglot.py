"""Omniglot, from the original drawings or from the file of Burda et al."""

import io
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from taut.data.base import Data, Splits, cut
from taut.data.binarise import Scale
from taut.data.readers.fetch import DamagedError, Remote, check_digest, obtain
from taut.data.readers.mat import read_mat
from taut.errors import UserError

_MIRRORS = (
    "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/",
    "https://github.com/brendenlake/omniglot/raw/master/python/",
)
_SIDE, _DRAWN = 28, 105
_LEVELS = 225  # a cell covers 15x15 of the 420x420 squares that both grids divide into
_VALIDATION, _TEST = 1345, 8070
_CHUNK = 1000  # drawings unpacked at once: 44 MB


def _weights() -> np.ndarray:
    """Quarters of a drawn pixel that each cell covers, along one axis: ``[28, 105]``, rows sum to 15."""
    quarter = np.arange(4 * _DRAWN)
    weights = np.zeros((_SIDE, _DRAWN), np.float32)
    np.add.at(weights, (quarter // 15, quarter // 4), 1)
    return weights


def shrink(ink: np.ndarray) -> np.ndarray:
    """Exact means, in 225ths, of ink 0 or 1 in ``[n, 105, 105]`` over 28x28 cells of 3.75x3.75 pixels."""
    weights = _weights()
    # exact: the sums are whole numbers up to 225, which float32 holds
    return (weights @ ink.astype(np.float32) @ weights.T).astype(np.uint8)


def _read_drawings(path: Path, count: int, size: int, sha256: str) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            # sorted, because mirrors may pack the files in another order
            members = sorted(m.filename for m in archive.infolist() if m.filename.endswith(".png"))
            unpacked = sum(archive.getinfo(name).file_size for name in members)
            # before anything is unpacked: a zip bomb promises more
            if (len(members), unpacked) != (count, size):
                raise DamagedError(f"holds {len(members)} drawings of {unpacked} bytes, expected {count} of {size}")
            drawings = [archive.read(name) for name in members]
    # zipfile raises the last two for encrypted files and for unknown compressions
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DamagedError(f"not a whole zip file: {error}") from error
    check_digest(b"".join(drawings), sha256)
    return np.concatenate([_ink(drawings[i : i + _CHUNK]) for i in range(0, count, _CHUNK)])


def _ink(drawings: list[bytes]) -> np.ndarray:
    paper = np.stack([np.asarray(Image.open(io.BytesIO(drawing))) for drawing in drawings])
    return shrink(~paper)


def _archive(name: str, count: int, size: int, sha256: str) -> Remote[np.ndarray]:
    urls = tuple(mirror + name for mirror in _MIRRORS)
    return Remote("omniglot", name, urls, partial(_read_drawings, count=count, size=size, sha256=sha256))


_ARCHIVES = (
    _archive(
        "images_background.zip",
        19280,
        4810560,
        "b38e1a99da123d983059b091375d7270c294113555d7036a950dc89b3250b80f",
    ),
    _archive(
        "images_evaluation.zip",
        13180,
        3371735,
        "4cee9ec535395b4f7eb89b9e352656aebf0972a41fe46139f4238eb23b022f8b",
    ),
)
_CHARDATA = Remote(
    folder="omniglot",
    name="chardata.mat",
    urls=("https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/chardata.mat",),
    read=partial(read_mat, shapes={"data": (784, 24345), "testdata": (784, 8070)}),
)


@final
class Omniglot(Data):
    """Handwritten characters of 50 alphabets, 28x28, 1 is ink (Lake, Salakhutdinov and Tenenbaum 2015).

    ``drawings`` averages the 32460 original 105x105 drawings exactly over 28x28 cells and cuts them by a
    seeded permutation into 23045 / 1345 / 8070. ``chardata`` is the file of Burda, Grosse and Salakhutdinov
    (2016), whose resizing and split are not documented: 23000 / 1345 / 8070, validation cut from the end of
    the training images. Scores of the two variants are not comparable.

    Args:
        variant: ``drawings`` or ``chardata``.
        options: Arguments of ``Data``.
    """

    name: ClassVar[str] = "omniglot"

    def __init__(self, *, variant: Literal["drawings", "chardata"] = "drawings", **options: Any) -> None:
        if variant not in ("drawings", "chardata"):
            raise UserError(f"data.variant={variant} is unknown: choose drawings or chardata.")
        super().__init__(**options)
        self.variant = variant
        self.scale = Scale(levels=_LEVELS) if variant == "drawings" else Scale()

    def load(self) -> Splits:
        if self.variant == "chardata":
            train, test = map(_upright, obtain(_CHARDATA, self.dir))
            return Splits(train[:-_VALIDATION], train[-_VALIDATION:], test)
        images = np.concatenate([obtain(archive, self.dir) for archive in _ARCHIVES])
        return cut(torch.from_numpy(images).unsqueeze(1), val=_VALIDATION, test=_TEST, seed=self.split_seed)


def _upright(columns: np.ndarray) -> Float[Tensor, "n 1 28 28"]:
    """Images stored a column of the file each, columns of pixels first."""
    return torch.from_numpy(columns.T.astype(np.float32)).reshape(-1, 1, 28, 28).transpose(2, 3).contiguous()
