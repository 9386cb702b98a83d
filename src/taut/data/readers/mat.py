"""Arrays from MATLAB files, checked before and after they are read."""

import hashlib
import zlib
from pathlib import Path

import numpy as np
from scipy.io import loadmat, whosmat
from scipy.io.matlab import MatReadError

from taut.data.readers.fetch import DamagedError

Shapes = dict[str, tuple[int, ...]]

# scipy raises any of these for a damaged file
_BROKEN = (
    MatReadError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    OSError,
    EOFError,
    NotImplementedError,
    zlib.error,
    MemoryError,
)


def read_mat(path: Path, shapes: Shapes, sha256: str | None = None) -> list[np.ndarray]:
    """The arrays named in ``shapes``, in that order; MATLAB files hold no code.

    Args:
        path: The file.
        shapes: Name and expected shape of each array; read from the headers before any array is unpacked.
        sha256: Digest of the arrays, which stays the same when a file is saved again; ``None`` if unknown.

    Raises:
        DamagedError: If the file is no MATLAB file, or holds other arrays.
    """
    try:
        # from the headers: a file that promises too much is refused before it is unpacked
        present = {name: shape for name, shape, _ in whosmat(str(path), appendmat=False) if name in shapes}
        if present != shapes:
            raise DamagedError(f"holds arrays {present}, expected {shapes}")
        content = loadmat(str(path), variable_names=list(shapes), appendmat=False)
        arrays = [np.ascontiguousarray(content[name]) for name in shapes]
    except _BROKEN as error:
        raise DamagedError(f"not a whole MATLAB file: {error}") from error
    if sha256 is not None:
        _check(arrays, sha256)
    return arrays


def array_digest(arrays: list[np.ndarray]) -> str:
    """SHA-256 of the values, shapes and types of some arrays."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def _check(arrays: list[np.ndarray], sha256: str) -> None:
    digest = array_digest(arrays)
    if digest != sha256:
        raise DamagedError(f"SHA-256 of the arrays is {digest[:12]}..., expected {sha256[:12]}...")
