"""The user's own numbers."""

from pathlib import Path
from typing import Any, ClassVar, final

import torch

from taut.data.base import Data, Splits, cut
from taut.data.readers.array_file import read_array
from taut.data.readers.csv_file import read_csv
from taut.errors import UserError


@final
class Table(Data):
    """Rows of a CSV, NPY or NPZ file, cut by a seeded permutation.

    CSV: UTF-8, commas, decimal points, at most one header row. NPY and NPZ: rows ``[n, d]`` or images ``[n,
        c, h, w]``.
    Missing values (an empty cell, ``NA``, ``nan``, ``?``) are refused unless there is a mask, such as
    ``mask=from_data``. A constant column is accepted: its density is bounded by the variance floor of
    the likelihood alone.

    Args:
        path: The file.
        val_fraction: Part of the rows cut off for validation; 0 validates on the training rows.
        test_fraction: Part of the rows cut off for the test; 0 tests on the training rows.
        columns: Names of the CSV columns to use, in this order; all by default.
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
        columns: list[str] | None = None,
        array: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if path is None:
            raise UserError("data=table needs a file: add data.path=<file.csv, .npy or .npz>.")
        if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
            raise UserError(
                f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} must be 0 or "
                "more and leave rows for training: choose fractions whose sum is below 1."
            )
        self.path, self.array = Path(path).expanduser(), array
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.columns = tuple(columns) if columns is not None else None

    def load(self) -> Splits:
        rows = torch.from_numpy(self.read())
        val, test = (self._size(len(rows), part) for part in ("val", "test"))
        train, held_out, last = cut(rows, val, test, self.split_seed)
        return Splits(train, held_out if val else train, last if test else train)

    def read(self):
        """The values of the file, ``[n, d]`` or ``[n, c, h, w]``; sets ``columns`` to the names it has."""
        # first, or a broken link or a folder would be reported as a damaged file
        check_file(self.path)
        suffix = self.path.suffix.lower()
        if suffix in (".npy", ".npz"):
            return read_array(self.path, self.array, holes=self.mask is not None)
        if suffix != ".csv":
            raise UserError(f"{self.path}: the kind of file {suffix!r} is unknown: save it as .csv, .npy or .npz.")
        self.columns, values = read_csv(self.path, self.columns, holes=self.mask is not None)
        return values

    def _size(self, rows: int, part: str) -> int:
        fraction = getattr(self, f"{part}_fraction")
        size = round(rows * fraction)
        if fraction > 0 and size == 0:
            raise UserError(
                f"{self.path} has {rows} rows, of which data.{part}_fraction={fraction} leaves none: raise "
                "it, or set it to 0 to score the training rows."
            )
        return size


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
