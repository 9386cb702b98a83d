"""Old Faithful: the small table every mixture model starts with."""

from importlib.resources import files
from typing import ClassVar, final

import numpy as np
import torch

from taut.data.base import Data, Splits


@final
class Faithful(Data):
    """272 eruptions of the Old Faithful geyser: duration and waiting time, minutes (Härdle 1991).

    The table comes with the package. All three splits are all the rows, because the published
    maximum-likelihood fits are to all of them; a test score is then the score of the fit itself, not of new
    data.
    """

    name: ClassVar[str] = "faithful"
    columns = ("eruptions", "waiting")

    def load(self) -> Splits:
        with files("taut.data").joinpath("faithful.csv").open() as file:
            rows = torch.from_numpy(np.loadtxt(file, delimiter=",", skiprows=1, usecols=(1, 2)))
        return Splits(rows, rows, rows)
