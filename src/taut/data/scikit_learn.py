"""The small tables that come with scikit-learn: what published fits are compared on, without a file or a network."""

from typing import Any, ClassVar, Literal, final

import torch

from taut.data.base import Data, Splits, check_fractions, cut_by_fractions
from taut.errors import UserError

TABLES = ("breast_cancer", "diabetes", "iris", "wine")


@final
class ScikitLearn(Data):
    """Columns of a table of scikit-learn, without its labels: ``breast_cancer`` (569 x 30), ``iris`` (150 x 4) ...

    By default all three splits are all the rows, in their order, because published maximum-likelihood fits are to all
    of them; a test score is then the score of the fit itself, not of new data.

    Args:
        table: ``breast_cancer``, ``diabetes``, ``iris`` or ``wine``.
        standardise: Whether every column is given mean 0 and variance 1 (of the population), over all rows.
        val_fraction: Part of the rows cut off for validation; 0 validates on the training rows.
        test_fraction: Part of the rows cut off for the test; 0 tests on the training rows.
        options: Arguments of ``Data``.

    Raises:
        UserError: If there is no such table, or the fractions leave no rows for training.
    """

    name: ClassVar[str] = "scikit_learn"

    def __init__(
        self,
        *,
        table: Literal["breast_cancer", "diabetes", "iris", "wine"] = "iris",
        standardise: bool = False,
        val_fraction: float = 0.0,
        test_fraction: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if table not in TABLES:
            raise UserError(f"data.table={table} is not known; choose {', '.join(TABLES[:-1])} or {TABLES[-1]}.")
        check_fractions(val_fraction, test_fraction)
        self.table, self.standardise = table, standardise
        self.val_fraction, self.test_fraction = val_fraction, test_fraction

    def load(self) -> Splits:
        # here, where it is needed: scikit-learn takes long to import
        from sklearn import datasets

        loaded: Any = getattr(datasets, f"load_{self.table}")()
        self.columns = tuple(map(str, loaded.feature_names))
        rows = torch.from_numpy(loaded.data).double()
        if self.standardise:
            rows = (rows - rows.mean(0)) / rows.std(0, correction=0)
        if self.val_fraction == self.test_fraction == 0:
            return Splits(rows, rows, rows)
        source = f"data.table={self.table} has {len(rows)} rows"
        return cut_by_fractions(rows, self.val_fraction, self.test_fraction, seed=self.split_seed, source=source)
