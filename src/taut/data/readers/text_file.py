"""Lines of a text file, compressed or not; what is not text is refused with its place and a remedy."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from taut.errors import UserError

LONGEST = 1 << 22
"""Bytes of a line: a longer one is no row of numbers, and is not read to its end."""
_MARKS = {
    b"\xff\xfe": "UTF-16: save it as a CSV file in UTF-8",
    b"\xfe\xff": "UTF-16: save it as a CSV file in UTF-8",
    b"PK": "a zip archive or spreadsheet: save it as a CSV file in UTF-8",
    b"PAR1": "a Parquet file: give it the ending .parquet",
    b"ARROW1": "an Arrow file: give it the ending .feather",
    b"\x93NUMPY": "an NPY file: give it the ending .npy",
}


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, counted from 1, and text of every line without its end; blank lines at the end are left out.

    Raises:
        UserError: If the file is not UTF-8 text or is damaged, a line is too long, or is blank before others.
    """
    kind, opened = _opener(path)
    blank = None
    try:
        with opened(path) as file:
            for row, line in enumerate(_pieces(path, file), 1):
                text = _decoded(path, row, line)
                if not text:
                    blank = blank or row
                    continue
                if blank:
                    raise UserError(f"{path}: row {blank} is blank: remove it, missing rows cannot be modelled.")
                yield row, text
    # each library of compression has an error of its own for a damaged file
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"{path} cannot be read as {kind} file ({error}): it is damaged or cut short; restore it."
        ) from error


def _pieces(path: Path, file: BinaryIO) -> Iterator[bytes]:
    row = 0
    # at most: a file without line ends must not fill the memory
    while line := file.readline(LONGEST + 1):
        row += 1
        if row == 1:
            line = _unmarked(path, line)
        if len(line) > LONGEST:
            raise UserError(f"{path}: row {row} is longer than {LONGEST >> 20} MiB: check the line ends of the file.")
        yield line


def _decoded(path: Path, row: int, line: bytes) -> str:
    if b"\0" in line:
        raise UserError(f"{path}: row {row} holds a NUL byte, so it is binary or UTF-16: save it as UTF-8 text.")
    try:
        text = line.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        byte = line[error.start]
        raise UserError(
            f"{path}: row {row} holds the byte 0x{byte:02x}, which is not UTF-8 (Latin-1?): save the file as UTF-8."
        ) from error
    if "\r" in text:
        raise UserError(f"{path}: row {row} is not CSV: it holds a carriage return; save the file with line ends \\n.")
    return text


def _unmarked(path: Path, line: bytes) -> bytes:
    for mark, kind in _MARKS.items():
        if line.startswith(mark):
            raise UserError(f"{path} is {kind}.")
    return line.removeprefix(b"\xef\xbb\xbf")


def _zstandard(path: Path) -> BinaryIO:
    # here, where it is needed: Python has had Zstandard only since 3.14
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))  # type: ignore[arg-type]


def _opener(path: Path) -> tuple[str, Callable[[Path], BinaryIO]]:
    """How to open a file, by what it begins with: a name may lie."""
    with path.open("rb") as file:
        head = file.read(10)
    if head.startswith(b"\x1f\x8b"):
        return "a gzip", lambda path: gzip.open(path, "rb")  # type: ignore[return-value]
    if head.startswith(b"BZh") and head[4:] == b"1AY&SY":
        return "a bzip2", lambda path: bz2.open(path, "rb")  # type: ignore[return-value]
    if head.startswith(b"\xfd7zXZ\0"):
        return "an xz", lambda path: lzma.open(path, "rb")  # type: ignore[return-value]
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "a Zstandard", _zstandard
    return "a text", lambda path: path.open("rb")
