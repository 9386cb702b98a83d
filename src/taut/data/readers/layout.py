"""Lines of a file of delimited text, compressed or not, and its layout: found out where it is plain.

What is not text is refused with its place and a remedy, and a layout that would be a guess is asked for.
"""

import bz2
import csv
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn

from taut.data.readers.columns import Names
from taut.errors import UserError

Line = tuple[int, str]

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "space": " "}
"""A space stands for any run of white space."""
INTEGER = re.compile(r"[+-]?\d+")
_SAMPLE = 1000  # lines by which the layout is decided
_MISSING = {"", "na", "n/a", "nan", "-nan", "null", "none", "?", "-", ".", "#n/a", "#na", "<na>", "#n/a n/a"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,(\d{1,2}|\d{4,})(e[+-]?\d+)?", re.IGNORECASE)
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


@dataclass(frozen=True)
class TextOptions:
    """What the user says of a text file.

    Args:
        header: Whether the first row holds names; ``auto`` decides by content, and refuses where that is a guess.
        delimiter: One character, or one of the words of ``DELIMITERS``; ``auto`` decides by content.
        missing: Words that stand for a missing value beside the known ones; numbers by their value.
    """

    header: bool | Literal["auto"] = "auto"
    delimiter: str = "auto"
    missing: tuple[str, ...] = ()

    def is_missing(self, cell: str) -> bool:
        """Tell whether a cell stands for a missing value."""
        text = cell.strip()
        return text.lower() in _MISSING or text in self.missing or number(text) in self.numbers

    @property
    def words(self) -> set[str]:
        """All words that stand for a missing value."""
        return _MISSING.union(self.missing)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers among the words."""
        return tuple(value for word in self.missing if (value := number(word)) is not None)


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out.

    Args:
        path: The file.
        options: What the user says of it.
        delimiter: What stands between cells.
        width: Cells of a row.
        names: The names of the columns; ``None`` without a header.
        first: Number of the line with the first row of data.
        trailing: Whether a delimiter ends each line.
        decimal_comma: Whether numbers have decimal commas.
    """

    path: Path
    options: TextOptions
    delimiter: str
    width: int
    names: Names | None = None
    first: int = 1
    trailing: bool = False
    decimal_comma: bool = False

    def cells(self, row: int, line: str) -> list[str]:
        """The cells of a line.

        Raises:
            UserError: If it is not CSV, or has another number of cells.
        """
        try:
            cells = _split(line, self.delimiter)
        except csv.Error as error:
            broken = (
                "has a line break inside quotes, or a quote that is not closed, which" if line.count('"') % 2 else ""
            )
            raise UserError(
                f"{self.path}: row {row} {broken} is not CSV ({error}): put each row on one line, and check its quotes."
            ) from error
        if self.trailing and len(cells) == self.width + 1 and not cells[-1].strip():
            cells.pop()
        if len(cells) != self.width:
            commas = "or quote nothing and use decimal points if commas are meant as decimal commas"
            remedy = commas if self.delimiter == "," else "or name what stands between the cells by data.delimiter"
            raise UserError(
                f"{self.path}: row {row} has {len(cells)} cells, expected {self.width} as in row 1: complete it, "
                f"{remedy}."
            )
        return cells


def number(cell: str) -> float | None:
    """The number that a cell holds, if it holds one."""
    # float() takes 1_000 for a number, and CSV does not
    if "_" in cell:
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def opened(path: Path, options: TextOptions) -> tuple[Layout, Iterator[Line]]:
    """The layout of a file, and its rows of data."""
    rest = lines(path)
    sample = list(islice(rest, _SAMPLE))
    # np.savetxt marks a header so
    comments = []
    while sample and sample[0][1].startswith("#") and not options.is_missing(re.split(r"[,;\t| ]", sample[0][1])[0]):
        comments.append(sample.pop(0)[1].lstrip("#").strip())
    if not sample:
        raise UserError(f"{path} is empty: expected rows of numbers separated by commas.")
    layout = _layout(path, options, sample, comments)
    return layout, chain((line for line in sample if line[0] >= layout.first), rest)


def _layout(path: Path, options: TextOptions, sample: list[Line], comments: list[str]) -> Layout:
    texts = [text for _, text in sample]
    delimiter = DELIMITERS.get(options.delimiter, options.delimiter)
    delimiter = _delimiter(texts) if delimiter == "auto" else delimiter
    # a first row that is not CSV is refused with its place
    row = sample[0][0]
    try:
        width = len(_split(texts[0], delimiter))
    except csv.Error:
        width = 0
    layout = Layout(path, options, delimiter, width, first=row)
    first = layout.cells(*sample[0])
    others = [cells for text in texts[1:] if len(cells := _tried(text, delimiter)) == width]
    if width > 1 and len(others) == len(texts) - 1 and not any(cells[-1].strip() for cells in [first, *others]):
        layout = replace(layout, width=width - 1, trailing=True)
        first, others = first[:-1], [cells[:-1] for cells in others]
    everything = list(chain(first, *others))
    commas = delimiter != "," and any(_DECIMAL_COMMA.fullmatch(cell.strip()) for cell in everything)
    layout = replace(layout, decimal_comma=commas and not any("." in c and number(c) is not None for c in everything))
    if _has_header(layout, first, others):
        return replace(layout, names=tuple(cell.strip() for cell in first), first=row + 1)
    if comments and options.header is not False:
        names = [cell.strip() for cell in _tried(comments[-1], delimiter)]
        if len(names) == layout.width and not any(number(name) is not None for name in names):
            return replace(layout, names=tuple(names))
    return layout


def _split(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        return line.split()
    return next(csv.reader([line], delimiter=delimiter, strict=True)) if '"' in line else line.split(delimiter)


def _tried(line: str, delimiter: str) -> list[str]:
    try:
        return _split(line, delimiter)
    except csv.Error:
        return []


def _delimiter(texts: list[str]) -> str:
    """The delimiter that gives every line equally many cells, most of them numbers; else the commonest first cut."""
    best, most = ",", 0.0
    for delimiter in DELIMITERS.values():
        rows = [_tried(text, delimiter) for text in texts]
        width = len(rows[0])
        alike = sum(len(row) == width for row in rows) / len(rows)
        if width < 2 or (alike < 1 and len(rows) * alike < 2):
            continue
        cells = [cell.strip() for row in rows[1:] or rows for cell in row]
        numeric = sum(number(c) is not None or (delimiter != "," and bool(_DECIMAL_COMMA.fullmatch(c))) for c in cells)
        # lines of equal length come first, whatever they hold
        merit = 2 * (alike == 1) + numeric / len(cells) + 1e-9
        if merit > most:
            best, most = delimiter, merit
    return best


def _has_header(layout: Layout, first: list[str], others: list[list[str]]) -> bool:
    """Whether the first row holds names.

    Raises:
        UserError: Where that would be a guess.
    """
    options = layout.options
    if options.header != "auto":
        return bool(options.header)
    numbers = [i for i, cell in enumerate(first) if _is_number(layout, cell)]
    texts = [i for i, cell in enumerate(first) if i not in set(numbers) and not options.is_missing(cell)]
    if texts and not numbers:
        return True
    if texts:
        # below text that is text as well, it is a cell like others, such as a label
        if others and not any(_is_number(layout, row[i]) for row in others for i in texts):
            return False
        _refuse_to_guess(layout, f"both text ({first[texts[0]].strip()!r}) and numbers ({first[numbers[0]].strip()})")
    if numbers and _like_names(first, others):
        _refuse_to_guess(layout, f"whole numbers ({', '.join(first[:3])}{', ...' if len(first) > 3 else ''})")
    return False


def _like_names(first: list[str], others: list[list[str]]) -> bool:
    """Whole numbers that count the columns, as pandas writes them, or that stand above decimals alone."""
    cells = [cell.strip() for cell in first]
    if not others or not all(INTEGER.fullmatch(cell) for cell in cells) or len(set(cells)) < len(cells):
        return False
    if len(cells) > 2 and cells == [str(i) for i in range(len(cells))]:
        return True
    return not any(INTEGER.fullmatch(cell.strip()) for row in others for cell in row)


def _refuse_to_guess(layout: Layout, held: str) -> NoReturn:
    raise UserError(
        f"{layout.path}: row {layout.first} holds {held}, which may be names or data: say data.header=true if they are "
        "names, or data.header=false (and data.missing for words that stand for a missing value)."
    )


def _is_number(layout: Layout, cell: str) -> bool:
    text = cell.strip().replace(",", ".") if layout.decimal_comma else cell
    return number(text) is not None and not layout.options.is_missing(cell)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, counted from 1, and text of every line without its end; blank lines at the end are left out.

    Raises:
        UserError: If the file is not UTF-8 text or is damaged, a line is too long, or is blank before others.
    """
    kind, opener = _opener(path)
    blank = None
    try:
        with opener(path) as file:
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
