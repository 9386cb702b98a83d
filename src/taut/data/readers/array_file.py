"""Arrays from NPY and NPZ files, never unpickled."""

import lzma
import zipfile
import zlib
from pathlib import Path

import numpy as np

from taut.data.readers.columns import EXACT, INEXACT, LARGEST, MISSING, TOO_LARGE
from taut.errors import UserError
from taut.runtime.memory import available, in_words

_BOMB = 1 << 28, 200  # bytes, and the ratio above which a packed array is taken for a bomb
_CHUNK = 1 << 20  # numbers that are checked at once
_ENCRYPTED = 1  # the flag of a member of a zip archive
# numpy and zipfile raise any of these for a damaged file
_BROKEN = (
    ValueError,
    EOFError,
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    MemoryError,
    SyntaxError,
    RuntimeError,
    NotImplementedError,
)


def read_array(path: Path, name: str | None = None, *, holes: bool = False, in_memory: int | None = None) -> np.ndarray:
    """Read rows ``[n, d]`` or images ``[n, c, h, w]`` with 1 or 3 channels.

    Bytes and booleans stay bytes, everything else becomes float64.

    Args:
        path: An NPY file, or an NPZ file.
        name: Name of the array in an NPZ file; needed if it holds several.
        holes: Whether NaN stands for a missing value; refused otherwise.
        in_memory: Bytes of the numbers beyond which an NPY file stays on the disk: the array is then mapped, checked
            all the same, and has the type it has in the file. ``None`` for no limit.

    Raises:
        UserError: If there is no such array, or if its type, shape or a value cannot be used.
    """
    array = open_array(path, name)
    _check_shape(path, array)
    is_bytes = array.dtype == np.bool_ or array.dtype == np.uint8
    kind = np.dtype(np.uint8 if is_bytes else np.float64)
    stays = in_memory is not None and isinstance(array, np.memmap) and array.size * kind.itemsize > in_memory
    if not stays:
        refuse_beyond_memory(array.size * kind.itemsize, str(path))
    numbers = array if stays else np.empty(array.shape, kind)
    step = max(1, _CHUNK // max(1, array[0].size))
    for start in range(0, len(array), step):
        rows = slice(start, start + step)
        part = np.asarray(array[rows], kind)
        if not is_bytes:
            _check_values(path, array[rows], part, start, holes)
        if not stays:
            numbers[rows] = part
    return numbers


def open_array(path: Path, name: str | None = None) -> np.ndarray:
    """The array of an NPY file, mapped, or of an NPZ file, unpacked: of real numbers, unchecked otherwise.

    Raises:
        UserError: If there is no such array, the file is damaged, or the array holds no real numbers.
    """
    try:
        if path.suffix.lower() == ".npz":
            array = _member(path, name)
        else:
            # mapped: a header that promises more than the file holds is found out before memory is taken
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        # numpy raises a plain ValueError for pickles: its words are the only mark
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise UserError(f"{path} holds Python objects, which are not read: save plain numbers.") from error
        raise UserError(f"{path} is not a complete NPY or NPZ file ({error}): save it again with numpy.") from error
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} is an NPZ file: give it the ending .npz.")
    if array.dtype.kind not in "buif":
        raise UserError(
            f"{path} holds values of type {array.dtype}: save real numbers (bool, int or float), without "
            "fields or units."
        )
    return array


def refuse_beyond_memory(size: int, source: str) -> None:
    """Raise ``UserError`` where numbers of so many bytes cannot be in the memory of this machine."""
    if size > available():
        raise UserError(
            f"{source} takes {in_words(size)} in memory or more, and this machine has {in_words(available())}: only "
            "a table in .npy, .parquet, .feather or text with data.binarisation=none, and without mask.fresh, is read "
            "from the disk a batch at a time; save it so, or take fewer rows."
        )


def _member(path: Path, name: str | None) -> np.ndarray:
    with zipfile.ZipFile(path) as archive:
        members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
        if not members:
            held = ", ".join(archive.namelist()) or "nothing"
            raise UserError(f"{path} holds no array, but {held}: save arrays by numpy.savez.")
        names = ", ".join(members)
        if name is None and len(members) != 1:
            raise UserError(f"{path} holds {len(members)} arrays ({names}): choose one by data.array.")
        name = next(iter(members)) if name is None else name
        if name not in members:
            raise UserError(f"{path} has no array {name!r}: choose data.array from {names}.")
        size, packed = members[name].file_size, members[name].compress_size
        if members[name].flag_bits & _ENCRYPTED:
            raise UserError(f"{path}: array {name!r} is encrypted: save it by numpy.savez, without a password.")
        # by the sizes in the directory, before anything is unpacked
        if size > _BOMB[0] and size > _BOMB[1] * packed:
            raise UserError(f"{path}: array {name!r} unpacks from {packed} to {size} bytes: save it unpacked as .npy.")
        with archive.open(members[name]) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


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


def _check_values(path: Path, array: np.ndarray, numbers: np.ndarray, start: int, holes: bool) -> None:
    """Refuse the first value of some rows that cannot be used; ``numbers`` are those of the array in float64."""
    infinite = "infinite: replace it, or save in a wider type" if array.dtype == np.float16 else "infinite: replace it"
    faults = {
        INEXACT: (array > EXACT) | (array < -EXACT) if array.dtype.kind in "iu" and array.dtype.itemsize == 8 else None,
        MISSING: None if holes else np.isnan(numbers),
        infinite: np.isinf(numbers),
        TOO_LARGE: abs(numbers) > LARGEST,
    }
    for remedy, bad in faults.items():
        if bad is None or not bad.any():
            continue
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        row = start + place[0]
        where = f"row {row}, column {place[1]}" if array.ndim == 2 else f"image {row}, pixel {place[1:]}"
        raise UserError(f"{path}: {where} (counted from 0) holds {array[place]}, {remedy}.")
