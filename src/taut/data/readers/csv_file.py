"""Numbers from a CSV file; anything else is refused with its place and a remedy."""

import csv
import math
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from taut.data.readers.array_file import MISSING
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
    # at most: a file without line ends must not fill the memory
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


_LARGEST = float(np.finfo(np.float32).max)
_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-", "."}
Names = tuple[str, ...]


def read_csv(path: Path, columns: Names | None = None, *, holes: bool = False) -> tuple[Names | None, np.ndarray]:
    """Read numbers in rows of equal length, after at most one header row.

    The first row is a header if a cell of it is neither a number nor a missing value. Rows are counted as a
    spreadsheet counts them, header included. A column of text is no fault as long as ``columns`` leaves it
    out.

    Args:
        path: The file: UTF-8 with or without a byte order mark, commas, decimal points.
        columns: Names of the columns to read, in this order; all if ``None``.
        holes: Whether an empty cell, ``NA``, ``nan`` or ``?`` is a missing value, read as NaN; refused otherwise.

    Returns:
        The names, ``None`` without a header, and the values, float64 ``[n, d]``.

    Raises:
        UserError: For everything that is not such a file; the message names row, column, value and remedy.
    """
    rows = read_rows(path)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} is empty: expected rows of numbers separated by commas.")
    names = _names(path, first[1]) if _is_header(first[1]) else None
    chosen = _choose(path, names, columns, len(first[1]))
    body = rows if names is not None else chain([first], rows)
    values = _values(path, body, names, chosen, len(first[1]), holes)
    if not len(values):
        raise UserError(f"{path} has a header and no rows: add rows of numbers below it.")
    return (None if names is None else tuple(names[i] for i in chosen)), values


def _is_header(cells: list[str]) -> bool:
    return any(_number(cell) is None and cell.strip().lower() not in _MISSING for cell in cells)


def _names(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    for i, name in enumerate(names):
        if not name:
            raise UserError(
                f"{path}: column {i + 1} has no name in row 1: name it, or choose others by data.columns "
                "after naming it."
            )
        if name in names[:i]:
            raise UserError(
                f"{path}: columns {names.index(name) + 1} and {i + 1} are both called {name!r}: rename one of them."
            )
    return names


def _choose(path: Path, names: list[str] | None, columns: Names | None, width: int) -> list[int]:
    if columns is None:
        return list(range(width))
    if names is None:
        raise UserError(f"{path} has no header row, so data.columns cannot be found in it: add names, or drop it.")
    for column in columns:
        if column not in names:
            raise UserError(f"{path} has no column {column!r}: choose data.columns from {', '.join(names)}.")
    if not columns or len(set(columns)) < len(columns):
        raise UserError(f"data.columns={list(columns)} must name at least one column, and each once.")
    return [names.index(column) for column in columns]


def _values(
    path: Path,
    rows: Iterator[tuple[int, list[str]]],
    names: list[str] | None,
    chosen: list[int],
    width: int,
    holes: bool,
) -> np.ndarray:
    # 8 bytes a number, where a list of floats takes four times as many
    values = array("d")
    everything = chosen == list(range(width))
    for row, cells in rows:
        if len(cells) != width:
            raise UserError(
                f"{path}: row {row} has {len(cells)} cells, expected {width} as in row 1: complete it, or "
                "quote nothing and use decimal points if commas are meant as decimal commas."
            )
        kept = cells if everything else [cells[i] for i in chosen]
        numbers = _numbers(kept, holes)
        if numbers is None:
            _refuse_row(path, row, kept, chosen, names, holes)
        values.extend(numbers)
    return np.frombuffer(values).reshape(-1, len(chosen)) if values else np.empty((0, len(chosen)))


def _numbers(cells: list[str], holes: bool) -> list[float] | None:
    """The numbers of a row; ``None`` if a cell is none."""
    if holes:
        cells = ["nan" if cell.strip().lower() in _MISSING else cell for cell in cells]
    try:
        numbers = list(map(float, cells))
    except ValueError:
        return None
    # float() takes 1_000 for a number, and CSV does not
    usual = all(_usual(number) or (holes and math.isnan(number)) for number in numbers)
    return numbers if usual and "_" not in "".join(cells) else None


def _usual(number: float) -> bool:
    # false for NaN too, as every comparison with it is
    return -_LARGEST <= number <= _LARGEST


def _number(cell: str) -> float | None:
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _refuse_row(
    path: Path, row: int, cells: list[str], chosen: list[int], names: list[str] | None, holes: bool
) -> NoReturn:
    i, cell = next((i, c) for i, c in enumerate(cells) if _numbers([c], holes) is None)
    column = repr(names[chosen[i]]) if names else str(chosen[i] + 1)
    shown = cell if len(cell) <= 40 else f"{cell[:37]}..."
    raise UserError(f"{path}: row {row}, column {column} holds {shown!r}, {_remedy(cell)}.")


def _remedy(cell: str) -> str:
    text, number = cell.strip().lower(), _number(cell)
    if text in _MISSING:
        return MISSING
    if number is not None and math.isinf(number) and "inf" in text:
        return "which is infinite: remove the row, or replace the value"
    if number is not None:
        return f"which is beyond {_LARGEST:.3g}, the largest 32-bit number: rescale the column"
    if any(mark in cell for mark in ";\t|"):
        return "which has another separator than a comma: save the file with commas"
    if text.replace(",", "").replace(".", "").replace(" ", "").replace("'", "").lstrip("+-").isdecimal():
        return "with a decimal comma or a thousands separator: write numbers like 1234.5"
    return "which is not a number: correct it, or choose number columns by data.columns"
