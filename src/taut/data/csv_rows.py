"""Rows of cells from a CSV file: everything that can be wrong with a text file."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from taut.errors import UserError

_LINE = 1 << 22  # bytes: a longer line is no row of numbers, and is not read to its end
_MARKS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK": "a zip archive or spreadsheet",
    b"\x1f\x8b": "a gzip file",
}


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Row numbers, counted from 1, and cells; blank lines at the end are no rows."""
    with path.open("rb") as file:
        reader = csv.reader(_lines(path, file), strict=True)
        blank = None
        try:
            for row, cells in enumerate(reader, 1):
                if reader.line_num != row:
                    raise UserError(f"{path}: row {row} has a line break inside quotes: put each row on one line.")
                if not cells:
                    blank = blank or row
                    continue
                if blank:
                    raise UserError(f"{path}: row {blank} is blank: remove it, missing rows cannot be modelled.")
                yield row, cells
        except csv.Error as error:
            raise UserError(
                f"{path}: row {reader.line_num} is not CSV ({error}): check its quotes, or save the file again."
            ) from error


def _lines(path: Path, file: BinaryIO) -> Iterator[str]:
    row = 0
    while line := file.readline(_LINE + 1):
        row += 1
        if row == 1:
            line = _unmarked(path, line)
        if len(line) > _LINE:
            raise UserError(f"{path}: row {row} is longer than {_LINE >> 20} MiB: check the line ends of the file.")
        if b"\0" in line:
            raise UserError(f"{path}: row {row} holds a NUL byte, so it is binary or UTF-16: save it as UTF-8 text.")
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            byte = line[error.start]
            raise UserError(
                f"{path}: row {row} holds the byte 0x{byte:02x}, which is not UTF-8 (Latin-1?): save the file as UTF-8."
            ) from error


def _unmarked(path: Path, line: bytes) -> bytes:
    for mark, kind in _MARKS.items():
        if line.startswith(mark):
            raise UserError(f"{path} is {kind}: save it as a CSV file in UTF-8.")
    return line.removeprefix(b"\xef\xbb\xbf")
