"""Numbers from a file of delimited text; a cell that is no number is refused with its place and a remedy."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NoReturn

import numpy as np

from taut.data.readers.columns import EXACT, INEXACT, LARGEST, MISSING, TOO_LARGE, Choice, Columns, choose, named
from taut.data.readers.layout import INTEGER, Layout, Line, TextOptions, number, opened
from taut.errors import UserError

_BLOCK = 1 << 22  # characters parsed at once


def read_csv(
    path: Path, columns: Choice | None = None, *, holes: bool = False, options: TextOptions | None = None
) -> Columns:
    """Read numbers in rows of equal length, after at most one header row.

    Rows are counted as a spreadsheet counts them, header included. A column of text is no fault as long as ``columns``
    leaves it out.

    Args:
        path: The file: UTF-8 with or without a byte order mark, plain or compressed (gzip, bzip2, xz, Zstandard).
        columns: Names of the columns to read, or their numbers counted from 1, in this order; all if ``None``.
        holes: Whether an empty cell, ``NA``, ``nan`` or ``?`` is a missing value, read as NaN; refused otherwise.
        options: Header, delimiter and words for what is missing; found out by default.

    Raises:
        UserError: For everything that is not such a file; the message names row, column, value and remedy.
    """
    layout, rows = opened(path, options or TextOptions())
    chosen = choose(path, layout.names, columns, layout.width)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} has a header and no rows: add rows of numbers below it.")
    blocks = (_numbers(block, layout, chosen, holes) for block in _blocks(chain([first], rows), layout))
    return Columns(named(layout.names, chosen), len(chosen), blocks)


def read_cells(path: Path, columns: Choice | None = None, options: TextOptions | None = None) -> Iterator[list[str]]:
    """The cells of each row of data as they are written, with decimal points, of the columns ``read_csv`` reads."""
    layout, rows = opened(path, options or TextOptions())
    chosen = choose(path, layout.names, columns, layout.width)
    for row, line in rows:
        cells = layout.cells(row, line)
        yield [cells[i].replace(",", ".") if layout.decimal_comma else cells[i] for i in chosen]


def _blocks(rows: Iterator[Line], layout: Layout) -> Iterator[list[Line]]:
    """Rows of a few megabytes, each of the right number of cells."""
    block, size = [], 0
    for row, line in rows:
        block.append((row, _rewritten(row, line, layout)))
        size += len(line)
        if size > _BLOCK:
            yield block
            block, size = [], 0
    if block:
        yield block


def _rewritten(row: int, line: str, layout: Layout) -> str:
    """The line as Arrow reads it; unchanged where there are no quotes, trailing delimiters or runs of white space."""
    plain = layout.delimiter != " " and '"' not in line
    if plain and not layout.trailing and line.count(layout.delimiter) == layout.width - 1:
        return line
    text = io.StringIO()
    csv.writer(text, delimiter=_written(layout), lineterminator="").writerow(layout.cells(row, line))
    return text.getvalue()


def _written(layout: Layout) -> str:
    return "\t" if layout.delimiter == " " else layout.delimiter


def _numbers(block: list[Line], layout: Layout, chosen: list[int], holes: bool) -> np.ndarray:
    import pyarrow as pa  # here, where it is needed: a fifth of a second

    try:
        numbers = _parsed(block, layout, chosen, holes)
    except pa.ArrowInvalid:
        return _numbers_by_cell(block, layout, chosen, holes)
    usual = ((abs(numbers) < EXACT) | (np.isnan(numbers) & holes)) & ~np.isin(numbers, layout.options.numbers)
    return numbers if usual.all() else _numbers_by_cell(block, layout, chosen, holes)


def _parsed(block: list[Line], layout: Layout, chosen: list[int], holes: bool) -> np.ndarray:
    """All cells as Arrow reads them, too large though they may be; NaN where one is missing.

    Raises:
        pyarrow.ArrowInvalid: If a cell is not a number for Arrow.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    names, content = [str(i) for i in range(layout.width)], "\n".join(line for _, line in block).encode()
    used = [names[i] for i in chosen]
    table = arrow_csv.read_csv(
        io.BytesIO(content),
        # one thread: the cores are torch's, and a block is small
        arrow_csv.ReadOptions(use_threads=False, column_names=names, block_size=len(content) + 1),
        arrow_csv.ParseOptions(delimiter=_written(layout), ignore_empty_lines=False),
        arrow_csv.ConvertOptions(
            include_columns=used,
            column_types=dict.fromkeys(used, pa.float64()),
            null_values=[form for word in layout.options.words for form in _forms(word)] if holes else [],
            decimal_point="," if layout.decimal_comma else ".",
        ),
    )
    return np.stack([column.to_numpy(zero_copy_only=False) for column in table.columns], 1)


def _forms(word: str) -> tuple[str, ...]:
    # Arrow tells capital letters apart; other forms go through the slower check of every cell
    return word, word.upper(), word.capitalize()


def _numbers_by_cell(block: list[Line], layout: Layout, chosen: list[int], holes: bool) -> np.ndarray:
    """The numbers of rows of which some cell is missing, or is none, or is unusual."""
    delimiter, options = _written(layout), layout.options
    written = replace(layout, delimiter=delimiter, trailing=False)
    values = np.empty((len(block), len(chosen)))
    for at, (row, line) in enumerate(block):
        cells = written.cells(row, line)
        for j, i in enumerate(chosen):
            cell = cells[i]
            missing = options.is_missing(cell)
            value = math.nan if missing else _value(cell, layout)
            if not (holes if missing else _usual(cell, value)):
                _refuse(layout, row, i, cell, value)
            values[at, j] = value
    return values


def _value(cell: str, layout: Layout) -> float | None:
    if not layout.decimal_comma:
        return number(cell)
    return None if "." in cell else number(cell.replace(",", "."))


def _usual(cell: str, value: float | None) -> bool:
    if value is None or not abs(value) <= LARGEST:
        return False
    # beyond 2^53 the float would be another integer than the one written
    return abs(value) < EXACT or not INTEGER.fullmatch(cell.strip()) or abs(int(cell)) <= EXACT


def _refuse(layout: Layout, row: int, i: int, cell: str, value: float | None) -> NoReturn:
    column = repr(layout.names[i]) if layout.names and layout.names[i] else str(i + 1)
    shown = cell if len(cell) <= 40 else f"{cell[:37]}..."
    raise UserError(f"{layout.path}: row {row}, column {column} holds {shown!r}, {_remedy(layout, cell, value)}.")


def _remedy(layout: Layout, cell: str, value: float | None) -> str:
    text = cell.strip().lower()
    if layout.options.is_missing(cell):
        return MISSING
    if value is not None and math.isinf(value) and "inf" in text:
        return "which is infinite: remove the row, or replace the value"
    if value is not None and abs(value) > LARGEST:
        return f"which is {TOO_LARGE} the column"
    if value is not None:
        return f"{INEXACT} the column, or leave it out by data.columns"
    if layout.decimal_comma and number(text) is not None:
        return "with a decimal point, where other cells have decimal commas: write all numbers alike"
    if any(mark in cell for mark in ";\t|"):
        return "which has another separator than the rest: save the file with commas, or name it by data.delimiter"
    if text.replace(",", "").replace(".", "").replace(" ", "").replace("'", "").lstrip("+-").isdecimal():
        return "with a decimal comma or a thousands separator: write numbers like 1234.5"
    return _remedy_for_text(layout)


def _remedy_for_text(layout: Layout) -> str:
    how = "" if layout.names else ", counted from 1"
    return (
        f"which is not a number: correct it, choose number columns by data.columns{how} (no likelihood takes "
        "categories), or name it in data.missing if it stands for a missing value"
    )
