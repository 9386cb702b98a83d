"""Arrays from NPY and NPZ files, never unpickled."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from taut.errors import UserError

MISSING = "a missing value: use what is observed with mask=from_data, or fill it in"
_EXACT = 1 << 53  # integers beyond are not float64 numbers
_LARGEST = float(np.finfo(np.float32).max)
_BOMB = 1 << 28, 200  # bytes, and the ratio above which a packed array is taken for a bomb


def read_array(path: Path, name: str | None = None, *, holes: bool = False) -> np.ndarray:
    """Read rows ``[n, d]`` or images ``[n, c, h, w]`` with 1 or 3 channels.

    Bytes and booleans stay bytes, everything else becomes float64.

    Args:
        path: An NPY file, or an NPZ file.
        name: Name of the array in an NPZ file; needed if it holds several.
        holes: Whether NaN stands for a missing value; refused otherwise.

    Raises:
        UserError: If there is no such array, or if its type, shape or a value cannot be used.
    """
    array = _open(path, name)
    _check_type(path, array)
    _check_shape(path, array)
    if array.dtype == np.bool_ or array.dtype == np.uint8:
        return np.array(array, dtype=np.uint8)
    _check_integers(path, array)
    numbers = np.array(array, dtype=np.float64)
    _check_range(path, numbers, array, holes)
    return numbers


def _open(path: Path, name: str | None) -> np.ndarray:
    try:
        if path.suffix.lower() == ".npz":
            return _member(path, name)
        # mapped: a header that promises more than the file holds is found out before memory is taken
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, MemoryError, SyntaxError) as error:
        # numpy raises a plain ValueError for pickles: its words are the only mark
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise UserError(f"{path} holds Python objects, which are not read: save plain numbers.") from error
        raise UserError(f"{path} is not a complete NPY or NPZ file ({error}): save it again with numpy.") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} is an NPZ file: give it the ending .npz.")
    return array


def _member(path: Path, name: str | None) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
    names = ", ".join(members)
    if name is None and len(members) != 1:
        raise UserError(f"{path} holds {len(members)} arrays ({names}): choose one by data.array.")
    name = next(iter(members)) if name is None else name
    if name not in members:
        raise UserError(f"{path} has no array {name!r}: choose data.array from {names}.")
    size, packed = members[name].file_size, members[name].compress_size
    # by the sizes in the directory, before anything is unpacked
    if size > _BOMB[0] and size > _BOMB[1] * packed:
        raise UserError(f"{path}: array {name!r} unpacks from {packed} to {size} bytes: save it unpacked as .npy.")
    with np.load(path, allow_pickle=False) as content:
        return content[name]


def _check_type(path: Path, array: np.ndarray) -> None:
    if array.dtype.kind not in "buif":
        raise UserError(
            f"{path} holds values of type {array.dtype}: save real numbers (bool, int or float), without "
            "fields or units."
        )


def _check_shape(path: Path, array: np.ndarray) -> None:
    shape = array.shape
    if array.ndim not in (2, 4) or (array.ndim == 4 and shape[1] not in (1, 3)):
        raise UserError(
            f"{path} holds an array of shape {shape}: expected rows [n, d], or images [n, c, h, w] with c "
            "= 1 or 3, channels before height and width; reshape or transpose it."
        )
    if 0 in shape:
        raise UserError(
            f"{path} holds an array of shape {shape}, which has no values: save at least one row and column."
        )


def _check_integers(path: Path, array: np.ndarray) -> None:
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        _refuse(
            path,
            array,
            (array > _EXACT) | (array < -_EXACT),
            "beyond 2^53, where whole numbers are lost: rescale",
        )


def _check_range(path: Path, numbers: np.ndarray, array: np.ndarray, holes: bool) -> None:
    if not holes:
        _refuse(path, array, np.isnan(numbers), MISSING)
    remedy = "infinite: replace it, or save in a wider type" if array.dtype == np.float16 else "infinite: replace it"
    _refuse(path, array, np.isinf(numbers), remedy)
    # networks compute in float32, where it would become infinite
    _refuse(path, array, abs(numbers) > _LARGEST, f"beyond {_LARGEST:.3g}, the largest 32-bit number: rescale")


def _refuse(path: Path, array: np.ndarray, bad: np.ndarray, remedy: str) -> None:
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f"row {place[0]}, column {place[1]}" if array.ndim == 2 else f"image {place[0]}, pixel {place[1:]}"
        raise UserError(f"{path}: {where} (counted from 0) holds {array[place]}, {remedy}.")
