"""The user's own numbers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch

from taut.data import disk_rows
from taut.data.base import Data, Splits, check_fractions, cut_by_fractions
from taut.data.disk_rows import DiskRows, gathered
from taut.data.readers.array_file import read_array
from taut.data.readers.arrow_file import read_arrow
from taut.data.readers.columns import Columns
from taut.data.readers.csv_file import read_cells, read_csv
from taut.data.readers.layout import DELIMITERS, TextOptions
from taut.errors import UserError

ARRAYS, ARROW = (".npy", ".npz"), (".parquet", ".feather", ".arrow", ".ipc")
TEXT, COMPRESSED = (".csv", ".tsv", ".txt", ".dat"), (".gz", ".bz2", ".xz", ".zst")
KINDS = ".csv, .tsv, .txt (plain, .gz, .bz2, .xz or .zst), .parquet, .feather, .npy or .npz"


@final
class Table(Data):
    """Rows of a file, cut by a seeded permutation.

    Text (CSV and its like, compressed or not): UTF-8, rows of equal length, at most one header row. Parquet and
    Feather: columns of numbers. NPY and NPZ: rows ``[n, d]`` or images ``[n, c, h, w]``. Missing values (an empty cell,
    ``NA``, ``nan``, ``?``) are refused unless there is a mask, such as ``mask=from_data``. A constant column is
    accepted: its density is bounded by the variance floor of the likelihood alone.

    Args:
        path: The file.
        val_fraction: Part of the rows cut off for validation; 0 validates on the training rows.
        test_fraction: Part of the rows cut off for the test; 0 tests on the training rows.
        columns: Names of the columns to use, or their numbers counted from 1, in this order; all by default.
        header: Whether the first row of a text file holds names; ``auto`` decides, and refuses where that is a guess.
        delimiter: What stands between the cells of a text file: ``comma``, ``semicolon``, ``tab``, ``bar``, ``space``
            or one character; ``auto`` decides by content.
        missing: Words that stand for a missing value beside the known ones, such as ``[-999, unknown]``.
        array: Name of the array to use, for an NPZ file of several.
        options: Arguments of ``Data``.

    Raises:
        UserError: If the file, a value in it, or an argument cannot be used; the message says where and what
            to do.
    """

    name: ClassVar[str] = "table"

    def __init__(
        self,
        *,
        path: str | Path | None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        columns: Sequence[str | int] | str | int | None = None,
        header: bool | Literal["auto"] = "auto",
        delimiter: str = "auto",
        missing: Sequence[Any] | str | float = (),
        array: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if path is None:
            raise UserError(f"data=table needs a file: add data.path=<file>, a {KINDS} file.")
        check_fractions(val_fraction, test_fraction)
        self.path, self.array = path_of(path), array
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.chosen = _choice(columns)
        self.text = _text_options(header, delimiter, missing)

    def load(self) -> Splits:
        # what draws anew for all rows at once has to have them in memory
        drawn = self.binarisation != "none" or (self.mask is not None and self.mask.fresh)
        values = self.read(may_stay=not drawn)
        in_memory = not isinstance(values, np.memmap)
        rows = torch.from_numpy(values) if in_memory else DiskRows(values, np.arange(len(values)), str(self.path))
        fractions = self.val_fraction, self.test_fraction
        return cut_by_fractions(rows, *fractions, seed=self.split_seed, source=f"{self.path} has {len(rows)} rows")

    def read(self, *, may_stay: bool = False) -> np.ndarray:
        """The values of the file, ``[n, d]`` or ``[n, c, h, w]``; sets ``columns`` to the names it has.

        Args:
            may_stay: Whether values that are too many for the memory may stay on the disk: mapped, and checked all the
                same, in the type they have in the file.
        """
        # first, or a broken link or a folder would be reported as a damaged file
        check_file(self.path)
        holes = self.mask is not None
        if self.kind in ARRAYS:
            self._refuse_for_arrays()
            return read_array(self.path, self.array, holes=holes, in_memory=disk_rows.IN_MEMORY if may_stay else None)
        if self.array is not None:
            raise UserError(
                f"data.array={self.array} names an array of an NPZ file, and {self.path} is none: leave it out."
            )
        table = self._columns(holes)
        self.columns = table.names
        return gathered(table, str(self.path), may_stay=may_stay)

    def cells(self) -> Iterator[list[str]] | None:
        """The cells that ``read`` reads, as they are written in a text file; ``None`` for other files."""
        return read_cells(self.path, self.chosen, self.text) if self.kind in TEXT else None

    @property
    def kind(self) -> str:
        """The ending of the file; that before it where it is one of a compressed file."""
        last, before = self.path.suffix.lower(), Path(self.path.stem).suffix.lower()
        return before if last in COMPRESSED and before in TEXT else last

    def _columns(self, holes: bool) -> Columns:
        if self.kind in TEXT:
            return read_csv(self.path, self.chosen, holes=holes, options=self.text)
        if self.kind not in ARROW:
            raise UserError(f"{self.path}: the kind of file {self.path.suffix!r} is unknown: save it as {KINDS}.")
        if (self.text.header, self.text.delimiter) != ("auto", "auto"):
            raise UserError(
                f"data.header and data.delimiter are for text files, and {self.path} is none: leave them out."
            )
        return read_arrow(self.path, self.chosen, holes=holes, missing=self.text.numbers)

    def _refuse_for_arrays(self) -> None:
        if self.chosen is not None or self.text != TextOptions():
            raise UserError(
                f"data.columns, data.header, data.delimiter and data.missing are for tables, and {self.path} holds an "
                "array: leave them out, and choose columns or set missing values to NaN before saving it."
            )


def path_of(path: Any) -> Path:
    """The path that ``data.path`` names.

    Raises:
        UserError: If it is no text.
    """
    if not isinstance(path, str | Path):
        raise UserError(
            f"data.path={path!r} must be a path; a name that is a number stands in quotes: 'data.path=\"5\"'."
        )
    return Path(path).expanduser()


def _choice(columns: Any) -> tuple[str | int, ...] | None:
    if columns is None:
        return None
    chosen = _listed(columns)
    if any(not isinstance(column, str | int) or isinstance(column, bool) for column in chosen):
        raise UserError(f"data.columns={columns} must be names or numbers from 1, such as [height,weight] or [1,3].")
    return tuple(chosen)


def _listed(value: Any) -> list[Any]:
    """One thing is a list of one: a text is no list of its letters."""
    return [value] if isinstance(value, str | int | float) else list(value)


def _text_options(header: Any, delimiter: Any, missing: Any) -> TextOptions:
    # by identity: 1 == True, and is none of the three
    if not any(header is choice for choice in (True, False)) and header != "auto":
        raise UserError(f"data.header={header!r} must be true, false or auto.")
    if delimiter not in ("auto", *DELIMITERS) and not _can_delimit(delimiter):
        words = ", ".join(DELIMITERS)
        raise UserError(
            f"data.delimiter={delimiter!r} must be auto, one of {words}, or a character not used in numbers."
        )
    words = [] if missing is None else _listed(missing)
    if any(not isinstance(word, str | int | float) or isinstance(word, bool) for word in words):
        raise UserError(f"data.missing={words} must be a list of words or numbers, such as [unknown,-999].")
    return TextOptions(header, delimiter, tuple(str(word).strip() for word in words))


def _can_delimit(delimiter: Any) -> bool:
    one = isinstance(delimiter, str) and len(delimiter) == 1 and delimiter.isascii()
    return one and not delimiter.isalnum() and delimiter not in '"+-._#\n\r\0'


def check_file(path: Path) -> None:
    """Raise ``UserError`` unless the path leads to a regular file that can be opened."""
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path} is a link to {path.readlink()}, which does not exist: mend the link or data.path.")
    if not path.exists():
        raise UserError(f"{path} does not exist: give the path of a file as data.path.")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise UserError(f"{path} is {kind}: give the path of a file as data.path.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): change its permissions or data.path.") from error
