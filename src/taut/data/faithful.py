"""Old Faithful: the small table every mixture model starts with."""

from importlib.resources import files
from typing import Any, ClassVar, final

import numpy as np
import torch

from taut.data.base import Data, Splits, cut
from taut.errors import UserError


@final
class Faithful(Data):
    """272 eruptions of the Old Faithful geyser: duration and waiting time, minutes (Härdle 1991).

    The table comes with the package. By default all three splits are all the rows, because the published
    maximum-likelihood fits are to all of them; a test score is then the score of the fit itself, not of new
    data.

    Args:
        test_fraction: Part of the rows held out for the test; validation is on the training rows.
        options: Arguments of ``Data``.

    Raises:
        UserError: If the fraction is not in [0, 1).
    """

    name: ClassVar[str] = "faithful"
    columns = ("eruptions", "waiting")

    def __init__(self, *, test_fraction: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        if not 0 <= test_fraction < 1:
            raise UserError(f"data.test_fraction={test_fraction} must be 0 or more and below 1.")
        self.test_fraction = test_fraction

    def load(self) -> Splits:
        with files("taut.data").joinpath("faithful.csv").open() as file:
            rows = torch.from_numpy(np.loadtxt(file, delimiter=",", skiprows=1, usecols=(1, 2)))
        if self.test_fraction == 0:
            return Splits(rows, rows, rows)
        train, _, test = cut(rows, 0, max(1, round(len(rows) * self.test_fraction)), self.split_seed)
        return Splits(train, train, test)
