"""Bits per dimension, of data that take levels."""

from dataclasses import dataclass
from math import log


@dataclass(frozen=True)
class Bits:
    r"""How nats of x are bits of levels: $-\log p(x) / (D \ln 2) + \log_2 L$, x in units of 1 / L of a level.

    Args:
        dimensions: Number D of cells of a datum.
        levels: Levels L in a unit of x: 1 of a mass, whose x has no unit.
        of: What they are of: ``levels``, ``counts``, or ``dequantised`` levels, of whose mass they are an upper bound.

    >>> Bits(2, 1, "levels").of_nats(-2 * log(256))
    8.0
    >>> Bits(2, 256, "dequantised").of_nats(0.0)
    8.0
    """

    dimensions: int
    levels: int
    of: str

    def of_nats(self, log_p: float) -> float:
        """Bits per dimension of a log p(x)."""
        return self.of_error(-log_p) + log(self.levels) / log(2)

    def of_error(self, error: float) -> float:
        """The same of an error, which no unit moves."""
        return error / (self.dimensions * log(2))
