"""The user's own images."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from PIL import Image, ImageOps

from taut.data.base import Data, Splits, check_fractions, cut_by_fractions
from taut.data.binarise import Scale
from taut.data.readers.array_file import open_array, refuse_beyond_memory
from taut.data.table import check_file, path_of
from taut.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg")
MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB"}
"""What Pillow says of a file, and whether it is grey (``L``) or in colour."""


@final
class Images(Data):
    """Images of bytes v taken as x = v / 255, grey ``[1, h, w]`` or in colour ``[3, h, w]``, cut by a permutation.

    A folder of PNG and JPEG files, or of sub-folders of them, one for each label (labels are not used); or an NPY or
    NPZ file of bytes (uint8), ``[n, h, w]`` or ``[n, h, w, c]`` with c = 1 or 3. All have one size, unless ``size``
    says to which they are resized. Files are taken in the order of their names. All pixels are kept in memory, as
    bytes.

    Args:
        path: The folder, or the file.
        size: Height and width to which every image is resized by averaging over areas, whatever its shape; by default
            images of different sizes are refused.
        val_fraction: Part of the images cut off for validation; 0 validates on the training images.
        test_fraction: Part of the images cut off for the test; 0 tests on the training images.
        array: Name of the array to use, for an NPZ file of several.
        options: Arguments of ``Data``.

    Raises:
        UserError: If there are no images, a file is damaged or none, sizes or colours differ, or an argument is out of
            range; the message names the file.
    """

    name: ClassVar[str] = "images"
    scale = Scale(levels=255)

    def __init__(
        self,
        *,
        path: str | Path | None,
        size: Sequence[int] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        array: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if path is None:
            raise UserError("data=images needs images: add data.path=<a folder of PNG or JPEG files, or an NPY file>.")
        check_fractions(val_fraction, test_fraction)
        self.path, self.array, self.size = path_of(path), array, _checked(size)
        self.val_fraction, self.test_fraction = val_fraction, test_fraction

    def load(self) -> Splits:
        pixels = torch.from_numpy(self._of_folder() if self.path.is_dir() else self._of_array())
        fractions = self.val_fraction, self.test_fraction
        return cut_by_fractions(
            pixels, *fractions, seed=self.split_seed, source=f"{self.path} has {len(pixels)} images"
        )

    def _of_folder(self) -> np.ndarray:
        if self.array is not None:
            raise UserError(f"data.array={self.array} names an array of an NPZ file, and {self.path} is a folder.")
        files = list(_files(self.path))
        if not files:
            raise UserError(f"{self.path} holds no PNG or JPEG file, nor do its sub-folders: give another data.path.")
        first = _pixels(files[0], self.size)
        refuse_beyond_memory(len(files) * first.nbytes, str(self.path))
        images = np.empty((len(files), *first.shape), dtype=np.uint8)
        for i, file in enumerate(files):
            pixels = _pixels(file, self.size)
            if pixels.shape != first.shape:
                raise UserError(
                    f"{file} is {_words(pixels)}, but {files[0].name} is {_words(first)}: resize all images by "
                    "data.size=[height,width], and save all of them either grey or in colour."
                )
            images[i] = pixels
        return images.transpose(0, 3, 1, 2)

    def _of_array(self) -> np.ndarray:
        check_file(self.path)
        if self.path.suffix.lower() not in (".npy", ".npz"):
            raise UserError(f"{self.path} is no folder: give a folder of PNG or JPEG files, or an NPY or NPZ file.")
        images = open_array(self.path, self.array)
        if images.dtype not in (np.uint8, np.bool_) or 0 in images.shape:
            raise UserError(
                f"{self.path} holds an array of type {images.dtype} and shape {images.shape}: save images as bytes "
                "from 0 to 255 (uint8), or give other numbers to data=table."
            )
        if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
            raise UserError(
                f"{self.path} holds an array of shape {images.shape}: expected images [n, h, w], or [n, h, w, c] with "
                "c = 1 or 3, channels last; transpose it."
            )
        refuse_beyond_memory(images.nbytes, str(self.path))
        if images.dtype == np.bool_:
            images = images.astype(np.uint8) * np.uint8(255)
        if images.ndim == 4 and images.shape[-1] == 1:
            images = images[..., 0]
        if self.size is None:
            pixels = images if images.ndim == 4 else images[..., None]
        else:
            pixels = np.stack([_resized(Image.fromarray(image), self.size) for image in images])
        return np.array(pixels.transpose(0, 3, 1, 2), order="C")


def _checked(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = [] if isinstance(size, str | int | float) else list(size)
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise UserError(f"data.size={size} must be height and width in pixels, such as data.size=[28,28].")
    return sides[0], sides[1]


def _files(folder: Path) -> Iterator[Path]:
    """The images of a folder and of its sub-folders, by name; hidden files are passed over."""
    try:
        entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
        folders = [path for path in entries if path.is_dir()]
        entries += [p for inner in folders for p in sorted(inner.iterdir()) if not p.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): change its permissions or data.path.") from error
    for path in entries:
        if path in folders:
            continue
        if path.is_dir():
            raise UserError(f"{path} is a folder in a sub-folder: put all images of a label into one folder.")
        if path.suffix.lower() not in ENDINGS:
            raise UserError(f"{path} is no PNG or JPEG file: move it out of the folder of the images.")
        check_file(path)
        yield path


def _pixels(file: Path, size: tuple[int, int] | None) -> np.ndarray:
    """The pixels of a file, ``[h, w, 1]`` or ``[h, w, 3]``."""
    try:
        with warnings.catch_warnings():
            # a few bytes that unpack to gigabytes
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=("PNG", "JPEG")) as opened:
                opened.load()
                # cameras store how they were held
                image = ImageOps.exif_transpose(opened)
    # Pillow raises SyntaxError and ValueError for some damaged files
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{file} cannot be read as PNG or JPEG ({_brief(error)}): restore it, or move it away."
        ) from error
    if image.mode not in MODES:
        raise UserError(
            f"{file} has pixels of the kind {image.mode}: save it grey or in colour, with 8 bits for a channel."
        )
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise UserError(f"{file} has transparent pixels, whose colour nobody knows: save it on a background.")
    return _resized(image.convert(MODES[image.mode]), size)


def _resized(image: Image.Image, size: tuple[int, int] | None) -> np.ndarray:
    if size is not None:
        height, width = size
        image = image.resize((width, height), Image.Resampling.BOX)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _words(pixels: np.ndarray) -> str:
    height, width, channels = pixels.shape
    return f"{height} x {width} pixels and {'grey' if channels == 1 else 'in colour'}"


def _brief(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
