"""Compressive strength of concrete."""

from typing import Any, ClassVar, final

import numpy as np
import torch

from taut.data.base import Data, Splits, check_fractions, cut_by_fractions
from taut.data.readers.csv_file import read_csv
from taut.data.readers.fetch import data_folder
from taut.errors import UserError

MEANS = {
    "cement": 281.168,
    "blast_furnace_slag": 73.896,
    "fly_ash": 54.188,
    "water": 181.567,
    "superplasticizer": 6.205,
    "coarse_aggregate": 972.919,
    "fine_aggregate": 773.580,
    "age": 45.662,
    "compressive_strength": 35.818,
}
"""Means of the published columns: kg/m³, of the age days, of the strength MPa."""
ROUNDED, ROWS = 0.05, 1030
"""By how much a mean may differ: copies of the table are rounded to one, two or more digits."""


@final
class Concrete(Data):
    """1030 mixtures of concrete: seven ingredients (kg/m³), age (days) and strength (MPa) (Yeh, 1998).

    Read from ``concrete/concrete.csv`` in the data folder, with or without a header; known by its size and the means
    of its columns.

    Args:
        val_fraction: Part of the rows cut off for validation; 0 validates on the training rows.
        test_fraction: Part of the rows cut off for the test; 0 tests on the training rows.
        options: Arguments of ``Data``.

    Raises:
        UserError: If the file is not there or is another table, or a fraction is out of range.
    """

    name: ClassVar[str] = "concrete"
    columns = tuple(MEANS)

    def __init__(self, *, val_fraction: float = 0.1, test_fraction: float = 0.1, **options: Any) -> None:
        super().__init__(**options)
        check_fractions(val_fraction, test_fraction)
        self.val_fraction, self.test_fraction = val_fraction, test_fraction

    def load(self) -> Splits:
        rows = torch.from_numpy(self._read())
        return cut_by_fractions(rows, self.val_fraction, self.test_fraction, seed=self.split_seed, source="concrete")

    def _read(self) -> np.ndarray:
        path = data_folder(self.dir) / "concrete" / "concrete.csv"
        if not path.is_file():
            raise UserError(
                f"{path.name} is not in {path.parent}: save the table Concrete_Data.xls of "
                "https://archive.ics.uci.edu/dataset/165 there as CSV, or in R write.csv(modeldata::concrete, "
                '"concrete.csv", row.names = FALSE), or name another data folder by data.dir or TAUT_DATA.'
            )
        table = np.concatenate(list(read_csv(path).blocks))
        if table.shape != (ROWS, len(MEANS)) or np.abs(table.mean(0) - list(MEANS.values())).max() > ROUNDED:
            raise UserError(
                f"{path} is not the published table of {ROWS} rows and {len(MEANS)} columns with their means, such as "
                f"{MEANS['cement']:.1f} of cement in the first: replace it, or read it by data=table data.path={path}."
            )
        return table
